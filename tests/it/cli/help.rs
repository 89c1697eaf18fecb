//! The help texts are part of the contract: a change shows here.

use insta::assert_snapshot;

use super::program::Program;

/// The help of a subcommand, which goes to stdout with exit code 0.
async fn help(subcommand: &str) -> String {
    let arguments: Vec<&str> = subcommand.split_whitespace().chain(["--help"]).collect();
    let done = Program::new().run(&arguments, &[]).await;
    assert_eq!((done.code, &*done.err), (Some(0), ""), "{done:?}");
    done.out
}

#[tokio::test]
async fn the_help_of_the_program_is_this() {
    assert_snapshot!(help("").await, @r#"
    A multi-tenant, encrypted, audited cache for answers that cost money and time

    Usage: ai-cache [OPTIONS] <COMMAND>

    Commands:
      serve    Serve until stopped; without DATABASE_URL with a Postgres and a Redis of its own
      migrate  Bring the database to this release's schema
      tenant   Make and list tenants
      token    Make, list and revoke tokens
      audit    Prove and read the audit trail
      gdpr     File, decide on and prove data subjects' requests
      purge    Remove what is past its retention; 1: it waits for --confirm
      keys     Rotate keys
      restore  Make a restored database fit to be served from
      config   Look at the settings
      bench    Measure how many answers a second come from the cache
      scale    Measure what a million small entries take of memory
      openapi  Print the OpenAPI document
      help     Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
      -V, --version        Print version
    "#);
}

#[tokio::test]
async fn the_help_of_serve_is_this() {
    assert_snapshot!(help("serve").await, @r#"
    Serve until stopped; without DATABASE_URL with a Postgres and a Redis of its own

    Usage: ai-cache serve [OPTIONS]

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_migrate_is_this() {
    assert_snapshot!(help("migrate").await, @r#"
    Bring the database to this release's schema

    Usage: ai-cache migrate [OPTIONS]

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_tenant_is_this() {
    assert_snapshot!(help("tenant").await, @r#"
    Make and list tenants

    Usage: ai-cache tenant [OPTIONS] <COMMAND>

    Commands:
      create  Make a tenant with its keys
      list    List every tenant
      help    Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_tenant_create_is_this() {
    assert_snapshot!(help("tenant create").await, @r#"
    Make a tenant with its keys

    Usage: ai-cache tenant create [OPTIONS] --name <NAME> <SLUG>

    Arguments:
      <SLUG>  Its name in commands and routes: 1 to 63 of a-z, 0-9 and -

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --name <NAME>    Its name for people
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_tenant_list_is_this() {
    assert_snapshot!(help("tenant list").await, @r#"
    List every tenant

    Usage: ai-cache tenant list [OPTIONS]

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_token_is_this() {
    assert_snapshot!(help("token").await, @r#"
    Make, list and revoke tokens

    Usage: ai-cache token [OPTIONS] <COMMAND>

    Commands:
      create  Make a token; it is shown this once
      list    List a tenant's tokens
      revoke  Revoke a token
      help    Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_token_create_is_this() {
    assert_snapshot!(help("token create").await, @r#"
    Make a token; it is shown this once

    Usage: ai-cache token create [OPTIONS] --tenant <TENANT> --role <ROLES>

    Options:
          --config <FILE>            Settings as NAME=value lines; the environment comes first, .env last
          --tenant <TENANT>          The tenant's slug
          --role <ROLES>             app, admin, compliance or operator; may be given several times
          --expires-in <EXPIRES_IN>  How long it is accepted: a number and s, m, h or d
          --json                     Print JSON
      -h, --help                     Print help
    "#);
}

#[tokio::test]
async fn the_help_of_token_list_is_this() {
    assert_snapshot!(help("token list").await, @r#"
    List a tenant's tokens

    Usage: ai-cache token list [OPTIONS] --tenant <TENANT>

    Options:
          --config <FILE>    Settings as NAME=value lines; the environment comes first, .env last
          --tenant <TENANT>  The tenant's slug
          --json             Print JSON
      -h, --help             Print help
    "#);
}

#[tokio::test]
async fn the_help_of_token_revoke_is_this() {
    assert_snapshot!(help("token revoke").await, @r#"
    Revoke a token

    Usage: ai-cache token revoke [OPTIONS] <ID>

    Arguments:
      <ID>  The token's id

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_audit_is_this() {
    assert_snapshot!(help("audit").await, @r#"
    Prove and read the audit trail

    Usage: ai-cache audit [OPTIONS] <COMMAND>

    Commands:
      verify         Verify every record and seal of the trail; 1: something is wrong, 2: nothing is there
      export         Print the audit trail, one JSON object a line, a tenant's oldest first; it is recorded
      accept-ledger  Take note that a new ledger was begun because records may be lost
      help           Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_audit_verify_is_this() {
    assert_snapshot!(help("audit verify").await, @r#"
    Verify every record and seal of the trail; 1: something is wrong, 2: nothing is there

    Usage: ai-cache audit verify [OPTIONS]

    Options:
          --config <FILE>      Settings as NAME=value lines; the environment comes first, .env last
          --tenant <SLUG>      Tell of the rows of this tenant only, and of all seals
          --checkpoint <FILE>  Compare with the seals kept in this file
          --offline <FILE>     Verify the records of this export instead, without a database
          --json               Print JSON
      -h, --help               Print help
    "#);
}

#[tokio::test]
async fn the_help_of_audit_export_is_this() {
    assert_snapshot!(help("audit export").await, @r#"
    Print the audit trail, one JSON object a line, a tenant's oldest first; it is recorded

    Usage: ai-cache audit export [OPTIONS]

    Options:
          --config <FILE>    Settings as NAME=value lines; the environment comes first, .env last
          --tenant <TENANT>  The tenant's slug; without it every tenant's trail is printed, one after the other
          --from <FROM>      Not before this time, such as 2026-01-31T00:00:00Z
          --to <TO>          Before this time
      -h, --help             Print help
    "#);
}

#[tokio::test]
async fn the_help_of_purge_is_this() {
    assert_snapshot!(help("purge").await, @r#"
    Remove what is past its retention; 1: it waits for --confirm

    Usage: ai-cache purge [OPTIONS]

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --dry-run        Only tell what is due
          --confirm        Remove it although it is much or a clock jumped
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_keys_is_this() {
    assert_snapshot!(help("keys").await, @r#"
    Rotate keys

    Usage: ai-cache keys [OPTIONS] <COMMAND>

    Commands:
      rotate  Wrap persons' keys under a new key and destroy the old one; 1: some do not open
      help    Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_keys_rotate_is_this() {
    assert_snapshot!(help("keys rotate").await, @r#"
    Wrap persons' keys under a new key and destroy the old one; 1: some do not open

    Usage: ai-cache keys rotate [OPTIONS] --wrapping

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --wrapping       The wrapping key of persons' keys
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_restore_is_this() {
    assert_snapshot!(help("restore").await, @r#"
    Make a restored database fit to be served from

    Usage: ai-cache restore [OPTIONS] <COMMAND>

    Commands:
      apply-ledger  Erase again what the erasure ledger's file says was erased; 1: not all of it could be read
      help          Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_restore_apply_ledger_is_this() {
    assert_snapshot!(help("restore apply-ledger").await, @r#"
    Erase again what the erasure ledger's file says was erased; 1: not all of it could be read

    Usage: ai-cache restore apply-ledger [OPTIONS]

    Options:
          --accept-missing-sink  Go on without the file, or with lines that cannot be read: what they say may be back
          --config <FILE>        Settings as NAME=value lines; the environment comes first, .env last
          --json                 Print JSON
      -h, --help                 Print help
    "#);
}

#[tokio::test]
async fn the_help_of_config_is_this() {
    assert_snapshot!(help("config").await, @r#"
    Look at the settings

    Usage: ai-cache config [OPTIONS] <COMMAND>

    Commands:
      check  Print every setting, its value and where it comes from; or what is wrong
      help   Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_config_check_is_this() {
    assert_snapshot!(help("config check").await, @r#"
    Print every setting, its value and where it comes from; or what is wrong

    Usage: ai-cache config check [OPTIONS]

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
          --json           Print JSON
      -h, --help           Print help
    "#);
}

#[tokio::test]
async fn the_help_of_bench_is_this() {
    assert_snapshot!(help("bench").await, @r#"
    Measure how many answers a second come from the cache

    Usage: ai-cache bench [OPTIONS]

    Options:
          --config <FILE>       Settings as NAME=value lines; the environment comes first, .env last
          --duration <SECONDS>  Seconds measured, warm-up not counted [default: 20]
          --concurrency <N>     Callers that ask at the same time [default: 64]
          --url <URL>           Measure this service (http://host:port) instead of one started for the purpose
          --token <TOKEN>       Token of the role app at the service of --url
          --floor               Measure a bare handler with bodies of the same size too, and print the ratio
          --json                Print JSON
      -h, --help                Print help
    "#);
}

#[tokio::test]
async fn the_help_of_openapi_is_this() {
    assert_snapshot!(help("openapi").await, @r#"
    Print the OpenAPI document

    Usage: ai-cache openapi [OPTIONS]

    Options:
          --config <FILE>  Settings as NAME=value lines; the environment comes first, .env last
      -h, --help           Print help
    "#);
}
