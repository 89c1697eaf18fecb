//! Generates the OpenAPI 3.1 document from the handlers. The service shows it at
//! `/api/openapi.json`, and `ai-cache openapi` prints it.

use actix_web::App;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
};
use utoipa::{Modify, PartialSchema, ToSchema};
use utoipa_actix_web::{AppExt, scope};

use super::problem::ProblemBody;
use super::routes::{self, AUTHENTICATED, OPEN, PREFIX};

/// The name of the security scheme in the document.
const TOKEN: &str = "token";

/// Returns the parts of the document that belong to no handler.
fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("ai-cache")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A multi-tenant cache for answers that cost money and time. Errors are \
             application/problem+json (RFC 9457).",
        ))
        .license(Some(license))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Returns the whole document.
pub fn generate() -> OpenApi {
    let (_, mut document) = App::new()
        .into_utoipa_app()
        .openapi(frame())
        .service(scope::scope(PREFIX).configure(routes::guarded))
        .configure(routes::open)
        .split_for_parts();
    Access.modify(&mut document);
    Problems.modify(&mut document);
    document
}

/// Returns the whole document as indented JSON that ends in a line break.
pub fn text() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&generate()).map(|text| text + "\n")
}

/// The modifier that adds to each operation the role that its route needs.
struct Access;

impl Modify for Access {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme(TOKEN, scheme);
        let guarded = AUTHENTICATED.iter().map(|route| {
            let requirement = SecurityRequirement::new(TOKEN, [route.role.name()]);
            (&route.path, route.method, requirement)
        });
        let nothing = SecurityRequirement::default;
        let open = OPEN.iter().map(|route| (&route.path, route.method, nothing()));
        for (path, method, requirement) in guarded.chain(open) {
            let item = document.paths.paths.get_mut(path);
            let found = item.into_iter().flat_map(operations).find(|(name, _)| *name == method);
            if let Some((_, operation)) = found {
                operation.security = Some(vec![requirement]);
            }
        }
    }
}

/// The modifier that adds the error replies. Each guarded operation gets a 4XX and a 5XX reply
/// unless it describes its own. The body of every reply under `4XX` and `5XX` becomes
/// `ProblemBody`.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut OpenApi) {
        let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
        ProblemBody::schemas(&mut schemas);
        document.components.get_or_insert_default().schemas.extend(schemas);
        let items = document.paths.paths.values_mut();
        for (_, operation) in items.flat_map(operations) {
            let is_open = operation.security == Some(vec![SecurityRequirement::default()]);
            let responses = &mut operation.responses.responses;
            for (class, description) in [("4XX", "Refused"), ("5XX", "Failed")] {
                if !is_open && !responses.contains_key(class) {
                    responses.insert(class.to_owned(), Response::new(description).into());
                }
                if let Some(RefOr::T(response)) = responses.get_mut(class) {
                    let body = RefOr::Ref(Ref::from_schema_name(ProblemBody::name()));
                    let content = ContentBuilder::new().schema(Some(body)).build();
                    response.content.insert("application/problem+json".to_owned(), content.into());
                }
            }
        }
    }
}

/// Returns the operations of a path, each with the name of its method.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("GET", &mut item.get),
        ("POST", &mut item.post),
        ("PUT", &mut item.put),
        ("PATCH", &mut item.patch),
        ("DELETE", &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
