//! The embedded Postgres and Redis (architecture.md §8): started, kept, adopted, refused, ended.
//! Each test has its own folder; the servers end with the test binary, however that ends.

mod servers;

use std::fs::{self, DirBuilder};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::str::FromStr;

use ai_cache::embedded::{
    APP_ROLE, DATABASE, EmbeddedError, Lifetime, Listen, OWNER_ROLE, PostgresServer, RedisServer,
    SUPERUSER,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use sqlx::{ConnectOptions, Connection};

use servers::{
    OtherProcess, SEARCH_PATH, TestFolder, ask, bound, bound_redis, is_alive, run, until,
};

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = TestFolder::new("restart");
    let first = PostgresServer::start(&folder.path, bound()).await.unwrap();
    run(&first, SUPERUSER, "postgres", "CREATE TABLE kept AS SELECT 42 AS answer").await.unwrap();
    let first_pid = first.pid().unwrap();
    first.stop().await.unwrap();
    assert!(!is_alive(first_pid), "the server still runs after stop");

    let second = PostgresServer::start(&folder.path, bound()).await.unwrap();
    assert!(!second.is_adopted());
    let answer = ask(&second, SUPERUSER, "postgres", "SELECT answer::text FROM kept").await;
    assert_eq!(answer, "42");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_one_folder_is_refused_in_one_line_and_a_command_may_join() {
    let folder = TestFolder::new("second");
    let first = PostgresServer::start(&folder.path, bound()).await.unwrap();

    let refused = PostgresServer::start(&folder.path, bound()).await.unwrap_err();
    assert!(matches!(refused, EmbeddedError::InUse { .. }), "{refused:?}");
    let line = refused.to_string();
    assert!(!line.contains('\n') && line.contains("in use by another ai-cache"), "{line}");
    assert!(line.contains(&std::process::id().to_string()), "{line}");

    let joined = PostgresServer::start_or_join(&folder.path, bound()).await.unwrap();
    assert_eq!(joined.pid(), None);
    assert_eq!(ask(&joined, SUPERUSER, "postgres", "SELECT 'joined'").await, "joined");
    joined.stop().await.unwrap();
    assert_eq!(ask(&first, SUPERUSER, "postgres", "SELECT 'still here'").await, "still here");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn servers_left_by_a_killed_process_are_adopted() {
    for server in ["postgres", "redis"] {
        let folder = TestFolder::new("adopt");
        let mut other = OtherProcess::start(server, "independent", &folder.path);
        let left = other.server_pid;
        other.kill();
        assert!(is_alive(left), "{server} ended with the process that started it");

        if server == "postgres" {
            let adopted = PostgresServer::start(&folder.path, bound()).await.unwrap();
            assert_eq!((adopted.is_adopted(), adopted.pid()), (true, Some(left)));
            assert_eq!(ask(&adopted, SUPERUSER, "postgres", "SELECT 'hello'").await, "hello");
            adopted.stop().await.unwrap();
        } else {
            let adopted =
                RedisServer::start(&folder.path, bound_redis(Listen::Unix)).await.unwrap();
            assert_eq!((adopted.is_adopted(), adopted.pid()), (true, left));
            adopted.stop().await.unwrap();
        }
        assert!(!is_alive(left), "{server} still runs after stop");
    }
}

#[tokio::test]
async fn a_bound_server_ends_when_its_process_is_killed() {
    for server in ["postgres", "redis"] {
        let folder = TestFolder::new("bound");
        let mut other = OtherProcess::start(server, "disposable", &folder.path);
        let left = other.server_pid;
        assert!(is_alive(left));
        other.kill();
        until("the server ends", || !is_alive(left)).await;
        until("its folder is removed", || !folder.path.exists()).await;
    }
}

#[tokio::test]
async fn a_killed_postmaster_and_a_pid_file_naming_a_stranger_are_no_obstacle() {
    let folder = TestFolder::new("stale");
    let first = PostgresServer::start(&folder.path, bound()).await.unwrap();
    let pid = Pid::from_raw(first.pid().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    drop(first);
    let second = PostgresServer::start(&folder.path, bound()).await.unwrap();
    assert!(!second.is_adopted());
    second.stop().await.unwrap();

    let pid_file = folder.path.join("postgres/data/postmaster.pid");
    fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
    let third = PostgresServer::start(&folder.path, bound()).await.unwrap();
    assert!(!third.is_adopted());
    third.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_is_never_root_and_its_folders_are_closed() {
    let folder = TestFolder::new("user");
    let mut options = bound();
    let me = Uid::effective();
    options.run_as = me.is_root().then(|| "nobody".to_owned());
    let postgres = PostgresServer::start(&folder.path, options).await.unwrap();
    let socket_dir = fs::metadata(postgres.socket_dir()).unwrap();
    assert_ne!(socket_dir.uid(), 0);
    assert!(me.is_root() || socket_dir.uid() == me.as_raw());
    assert_eq!(socket_dir.mode() & 0o777, 0o700);
    let tcp = ask(&postgres, SUPERUSER, "postgres", "SELECT current_setting('listen_addresses')");
    assert_eq!(tcp.await, "");

    let environment = format!("/proc/{}/environ", postgres.pid().unwrap());
    if let Ok(environment) = fs::read_to_string(environment) {
        assert!(!environment.contains("CARGO"), "the server inherited our environment");
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn only_root_may_choose_a_user_and_an_unknown_one_is_an_error() {
    let folder = TestFolder::new("unknown");
    let mut options = bound();
    options.run_as = Some("no-such-user".to_owned());
    let error = PostgresServer::start(&folder.path, options).await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::NoUser { .. } | EmbeddedError::NotRoot { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_data_folder_too_long_for_a_socket_works() {
    let folder = TestFolder::new("long");
    let long = folder.path.join("d".repeat(60)).join("with space, comma and 'quote'");
    let mut options = bound();
    options.lifetime = Lifetime::Disposable;
    let postgres = PostgresServer::start(&long, options.clone()).await.unwrap();
    let socket_dir = postgres.socket_dir().to_path_buf();
    assert!(!socket_dir.starts_with(&long) && socket_dir.as_os_str().len() < 90);
    let joined = PostgresServer::start_or_join(&long, options).await.unwrap();
    assert_eq!(joined.socket_dir(), socket_dir);
    assert_eq!(ask(&joined, SUPERUSER, "postgres", "SELECT 'hello'").await, "hello");
    postgres.stop().await.unwrap();
    assert!(!socket_dir.exists() && !long.exists(), "a disposable server left its folders");

    let mut options = bound_redis(Listen::Unix);
    options.lifetime = Lifetime::Disposable;
    let redis = RedisServer::start(&long, options).await.unwrap();
    assert!(redis.url().len() < 103);
    redis.stop().await.unwrap();
}

#[tokio::test]
async fn as_root_a_folder_closed_to_the_servers_user_keeps_its_cluster_elsewhere() {
    if !Uid::effective().is_root() {
        return;
    }
    let folder = TestFolder::new("closed");
    let closed = folder.path.join("closed");
    DirBuilder::new().mode(0o700).create(&closed).unwrap();
    let mut options = bound();
    options.lifetime = Lifetime::Disposable;
    let postgres = PostgresServer::start(&closed, options).await.unwrap();
    assert!(postgres.socket_dir().starts_with("/var/lib/ai-cache"));
    assert!(!closed.join("postgres").exists() && closed.join("postgres.log").exists());
    let home = postgres.socket_dir().parent().unwrap().parent().unwrap().to_path_buf();
    postgres.stop().await.unwrap();
    assert!(!home.exists(), "a disposable server left its folders");
}

#[tokio::test]
async fn roles_and_database_are_made_once_and_are_as_narrow_as_they_should_be() {
    let folder = TestFolder::new("roles");
    let postgres = PostgresServer::start(&folder.path, bound()).await.unwrap();
    for _ in 0..2 {
        postgres.ensure_roles_and_database().await.unwrap();
    }
    let attributes = "SELECT string_agg(concat_ws(' ', rolname, rolcanlogin, rolsuper, rolbypassrls, \
                      rolcreaterole, rolcreatedb, rolinherit), ', ' ORDER BY rolname) \
                      FROM pg_roles WHERE rolname LIKE 'ai\\_cache\\_%'";
    assert_eq!(
        ask(&postgres, SUPERUSER, "postgres", attributes).await,
        "ai_cache_app t f f f f f, ai_cache_owner t f f t f t"
    );
    let owner = "SELECT pg_get_userbyid(datdba)::text || pg_encoding_to_char(encoding)::text \
                 FROM pg_database WHERE datname = 'ai_cache'";
    assert_eq!(ask(&postgres, OWNER_ROLE, DATABASE, owner).await, "ai_cache_ownerUTF8");
    run(&postgres, OWNER_ROLE, DATABASE, "CREATE TABLE mine (id int)").await.unwrap();
    run(&postgres, APP_ROLE, DATABASE, "CREATE TABLE mine_too (id int)").await.unwrap_err();
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn one_url_serves_both_drivers_and_durability_is_on() {
    let folder = TestFolder::new("url");
    let postgres = PostgresServer::start(&folder.path, bound()).await.unwrap();
    let url = postgres.url(SUPERUSER, "postgres");
    let settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
                    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', \
                    'max_prepared_transactions', 'log_error_verbosity')";
    let expected = "fsync=on full_page_writes=on log_error_verbosity=terse \
                    max_prepared_transactions=0 synchronous_commit=on";
    assert_eq!(ask(&postgres, SUPERUSER, "postgres", settings).await, expected);

    let options = sqlx::postgres::PgConnectOptions::from_str(&url).unwrap();
    let mut connection = options.disable_statement_logging().connect().await.unwrap();
    let answer: String = sqlx::query_scalar(settings).fetch_one(&mut connection).await.unwrap();
    assert_eq!(answer, expected);
    connection.close().await.unwrap();
    assert_eq!(postgres.psql_command(SUPERUSER, "postgres"), format!("psql '{url}'"));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_failing_statement_and_its_values_are_not_in_the_log() {
    let folder = TestFolder::new("log");
    let postgres = PostgresServer::start(&folder.path, bound()).await.unwrap();
    let failing = "DO $$ BEGIN CREATE TEMP TABLE t (v text PRIMARY KEY); \
                   INSERT INTO t VALUES ('marker-4711'), ('marker-4711'); END $$";
    run(&postgres, SUPERUSER, "postgres", failing).await.unwrap_err();
    postgres.stop().await.unwrap();
    let log = fs::read_to_string(folder.path.join("postgres.log")).unwrap();
    assert!(log.contains("duplicate key"), "{log}");
    assert_eq!(log.matches("marker-4711").count(), 0, "{log}");
}

#[tokio::test]
async fn redis_listens_on_a_socket_or_a_port_and_keeps_nothing_on_disk() {
    assert!(RedisServer::find_program(SEARCH_PATH).is_some());
    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for listen in [Listen::Unix, Listen::Tcp(free_port)] {
        let folder = TestFolder::new("redis");
        let redis = RedisServer::start(&folder.path, bound_redis(listen)).await.unwrap();
        let refused = RedisServer::start(&folder.path, bound_redis(listen)).await.unwrap_err();
        assert!(matches!(refused, EmbeddedError::InUse { .. }), "{refused:?}");

        let client = deadpool_redis::redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let port = if listen == Listen::Unix { 0 } else { free_port }.to_string();
        let get = |name: &str| {
            let mut command = deadpool_redis::redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            command
        };
        for (name, expected) in [
            ("save", ""),
            ("appendonly", "no"),
            ("maxmemory", "268435456"),
            ("maxmemory-policy", "allkeys-lru"),
            ("port", port.as_str()),
        ] {
            let answer: Vec<String> = get(name).query_async(&mut connection).await.unwrap();
            assert_eq!(answer, [name, expected]);
        }
        let pid = redis.pid();
        redis.stop().await.unwrap();
        assert!(!is_alive(pid));
    }
}
