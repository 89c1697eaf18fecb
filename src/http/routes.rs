//! Lists every route of the service on one screen. To add a route, write its handler in `api` and a
//! line here. The guard's table, the metrics' labels and the API document are derived from the two.

use std::sync::LazyLock;

use utoipa_actix_web::service_config::ServiceConfig;

use crate::domain::action::Action;
use crate::domain::caller::Role;

use super::route::{OpenRoute, Route};
use super::{api, document, health};

/// The beginning of the path of every guarded route.
pub const PREFIX: &str = "/api/ai-cache";

/// Defines the routes. A line of `guarded` names a handler, the role that the token must have, and
/// the action that the audit record of a request names. The method and the path stand above the
/// handler, as in `#[post("/query")]`, and so does the operation of the API document. The path
/// continues `PREFIX`. A line of `open` names a handler that needs no token and has its whole path.
macro_rules! routes {
    (
        guarded { $($guarded:path => $role:ident, $action:ident;)+ }
        open { $($open:path;)+ }
    ) => {
        /// Every route that needs a token.
        pub static AUTHENTICATED: LazyLock<Vec<Route>> = LazyLock::new(|| {
            vec![$(Route::of::<$guarded>(PREFIX, Role::$role, Action::$action)),+]
        });

        /// Every route that everybody may use.
        pub static OPEN: LazyLock<Vec<OpenRoute>> =
            LazyLock::new(|| vec![$(OpenRoute::of::<$open>()),+]);

        /// Registers the handlers of the guarded routes, in a scope at `PREFIX`.
        pub fn guarded(config: &mut ServiceConfig<'_>) {
            config$(.service($guarded))+;
        }

        /// Registers the handlers of the open routes.
        pub fn open(config: &mut ServiceConfig<'_>) {
            config$(.service($open))+;
        }
    };
}

routes! {
    guarded {
        api::query::post_query              => App,        Query;
        api::invalidate::post_invalidate    => Admin,      Invalidate;
        api::entries::list_entries          => Admin,      EntryList;
        api::entries::get_entry             => Admin,      EntryRead;
        api::entries::delete_entry          => Admin,      EntryDelete;
        api::statistics::get_statistics     => Admin,      StatisticsRead;
        api::verification::get_verification => Compliance, VerificationRead;
        api::audit::list_audit              => Compliance, AuditRead;
        api::audit::export_audit            => Compliance, AuditExport;
        api::gdpr::post_request             => Compliance, GdprFile;
        api::gdpr::list_requests            => Compliance, GdprList;
        api::gdpr::get_request              => Compliance, GdprRead;
        api::gdpr::get_certificate          => Compliance, CertificateRead;
        api::gdpr::get_export               => Compliance, GdprDownload;
        api::gdpr::approve_request          => Compliance, GdprApprove;
        api::gdpr::reject_request           => Compliance, GdprReject;
        api::gdpr::cancel_request           => Compliance, GdprCancel;
        api::gdpr::extend_request           => Compliance, GdprExtend;
        api::holds::list_holds              => Compliance, HoldList;
        api::holds::put_hold                => Compliance, HoldSet;
        api::tokens::list_tokens            => Admin,      TokenList;
        api::tokens::post_token             => Admin,      TokenCreate;
        api::tokens::delete_token           => Admin,      TokenRevoke;
        api::purge::post_purge              => Operator,   Purge;
        api::tenants::list_tenants          => Operator,   TenantList;
        api::tenants::post_tenant           => Operator,   TenantCreate;
        api::tenants::patch_tenant          => Operator,   TenantUpdate;
        api::tenants::list_tenant_tokens    => Operator,   TokenList;
        api::tenants::post_tenant_token     => Operator,   TokenCreate;
        api::tenants::delete_tenant_token   => Operator,   TokenRevoke;
    }
    open {
        health::live;
        health::ready;
        health::cache;
        health::api_health;
        health::metrics;
        document::get_document;
    }
}
