//! The shape of functions and names (style.md "Shape"): a call is clear at its place, and each
//! type's name has one meaning.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{
    FnArg, ImplItemFn, ItemEnum, ItemFn, ItemStruct, ItemTrait, ItemType, Pat, Signature,
    TraitItemFn, Type,
};

/// The most parameters besides `self`. More parameters become the fields of a named struct.
const MOST_PARAMETERS: usize = 5;

/// The functions that may have a parameter that others may not have, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 4] = [
    ("src/domain/json.rs", "visit_bool", "a trait of serde says so"),
    ("src/tiers/hot.rs", "weight", "a trait of quick_cache gives the key, which is a pair"),
    ("src/cli/output.rs", "of", "a flag of the command line is a bool"),
    ("src/telemetry/metrics/audit.rs", "audit_available", "the value of a gauge of 0 or 1"),
];

struct Functions<'a> {
    path: &'a str,
    found: Vec<String>,
}

/// Returns what is wrong with the parameters of a file's functions, one line each.
pub fn faults(path: &str, source: &str) -> Vec<String> {
    let file = syn::parse_file(source).unwrap();
    let mut functions = Functions { path, found: Vec::new() };
    functions.visit_file(&file);
    functions.found
}

impl Functions<'_> {
    fn judge(&mut self, signature: &Signature) {
        let name = signature.ident.to_string();
        if EXCEPTIONS.iter().any(|(path, function, _)| *path == self.path && *function == name) {
            return;
        }
        let parameters: Vec<_> = signature
            .inputs
            .iter()
            .filter_map(|input| match input {
                FnArg::Typed(parameter) => Some(parameter),
                FnArg::Receiver(_) => None,
            })
            .collect();
        let mut find = |what: &str| self.found.push(format!("{}: fn {name} {what}", self.path));
        if parameters.len() > MOST_PARAMETERS {
            find(&format!("has {} parameters", parameters.len()));
        }
        for parameter in parameters {
            if matches!(*parameter.pat, Pat::Tuple(_)) || is_tuple(&parameter.ty) {
                find("has a tuple as a parameter");
            }
            if is_bool(&parameter.ty) {
                find("has a bool as a parameter");
            }
        }
    }
}

impl Visit<'_> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &ItemFn) {
        self.judge(&item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &ImplItemFn) {
        self.judge(&item.sig);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &TraitItemFn) {
        self.judge(&item.sig);
        visit::visit_trait_item_fn(self, item);
    }
}

fn is_tuple(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_tuple(&reference.elem),
        Type::Tuple(tuple) => !tuple.elems.is_empty(),
        _ => false,
    }
}

fn is_bool(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("bool"))
}

#[derive(Default)]
struct Names(Vec<String>);

impl Visit<'_> for Names {
    fn visit_item_struct(&mut self, item: &ItemStruct) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &ItemEnum) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &ItemTrait) {
        self.0.push(item.ident.to_string());
    }

    fn visit_item_type(&mut self, item: &ItemType) {
        self.0.push(item.ident.to_string());
    }
}

/// Returns the names of types that several files define, each with these files.
pub fn shared_names(files: &[(String, String)]) -> BTreeMap<String, Vec<&str>> {
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, source) in files {
        let mut names = Names::default();
        names.visit_file(&syn::parse_file(source).unwrap());
        for name in names.0 {
            owners.entry(name).or_default().push(path);
        }
    }
    owners.retain(|_, owners| owners.len() > 1);
    owners
}
