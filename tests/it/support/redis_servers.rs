//! Redis servers that the embedded module does not start: with TLS, and a cluster of six. On
//! loopback, in folders of their own; killed by their ids when the test ends.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use ai_cache::embedded::RedisServer;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, FromRedisValue, RedisResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folders::scratch;
use super::services::{COUNT_VALUES, search_path};
use super::wait_until;

/// The time in milliseconds after which the others replace a silent master of the cluster.
const NODE_TIMEOUT: &str = "1000";

/// A Redis server of one test.
pub struct RedisProcess {
    child: Child,
    folder: PathBuf,
    arguments: Vec<String>,
    /// The port without TLS.
    pub port: u16,
}

/// Returns a port that nobody listens on and that no other test gets, below those that the system
/// gives away.
pub fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 150).unwrap() * 100;
    loop {
        let port = 15_000 + spread + NEXT.fetch_add(1, Ordering::SeqCst);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn spawn(folder: &Path, arguments: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(RedisServer::find_program(&search_path()).unwrap())
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl RedisProcess {
    /// Starts a server with these settings and waits until it answers.
    pub async fn start(arguments: &[&str]) -> Self {
        let folder = scratch("redis");
        let port = own_port();
        let mut arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        arguments.extend(["--port".to_owned(), port.to_string()]);
        let child = spawn(&folder, &arguments);
        let server = Self { child, folder, arguments, port };
        server.wait_until_answering().await;
        server
    }

    async fn wait_until_answering(&self) {
        wait_until("the server answers", || async {
            self.try_run::<String>(&Cmd::new().arg("PING").clone()).await.ok()
        })
        .await;
    }

    /// Returns its URL without TLS.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Connects to this server alone.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    async fn try_run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connect().await?).await
    }

    /// Asks this server alone.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let command = words.iter().fold(Cmd::new(), |mut made, word| made.arg(word).clone());
        self.try_run(&command).await.unwrap()
    }

    /// Returns a field of what the server tells about itself.
    pub async fn info(&self, section: &str, field: &str) -> String {
        let text: String = self.run(&["INFO", section]).await;
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.folder, &self.arguments);
        self.wait_until_answering().await;
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        // The test may have killed it.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Three masters with a replica each.
pub struct RedisCluster {
    /// The masters, then their replicas in the same order.
    pub nodes: Vec<RedisProcess>,
}

impl RedisCluster {
    /// Starts a cluster, and waits until every node says that it is whole.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let bus = own_port().to_string();
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                NODE_TIMEOUT,
                "--repl-diskless-sync-delay",
                "0",
                "--cluster-port",
            ];
            nodes.push(RedisProcess::start(&[&arguments[..], &[&bus]].concat()).await);
        }
        let cluster = Self { nodes };
        cluster.introduce().await;
        for (master, replica) in cluster.nodes[..3].iter().zip(&cluster.nodes[3..]) {
            let id: String = master.run(&["CLUSTER", "MYID"]).await;
            wait_until("the replica knows its master", || async {
                let command = Cmd::new().arg("CLUSTER").arg("REPLICATE").arg(&id).clone();
                replica.try_run::<()>(&command).await.ok()
            })
            .await;
        }
        for replica in &cluster.nodes[3..] {
            wait_until("the replica follows its master", || async {
                let link = replica.info("replication", "master_link_status").await;
                (link == "up").then_some(())
            })
            .await;
        }
        cluster.wait_until_whole().await;
        cluster
    }

    async fn introduce(&self) {
        const SLOTS: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];
        for (index, node) in self.nodes.iter().enumerate() {
            let epoch = (index + 1).to_string();
            node.run::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        for (node, [first, last]) in self.nodes.iter().zip(SLOTS) {
            node.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        }
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port.to_string(), node.arguments[7].clone());
            self.nodes[0].run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
    }

    /// Waits until every living node knows all six nodes, and a master for every slot.
    pub async fn wait_until_whole(&self) {
        for node in &self.nodes {
            wait_until("the cluster is whole", || async {
                let command = Cmd::new().arg("CLUSTER").arg("INFO").clone();
                let info: String = node.try_run(&command).await.ok()?;
                let whole =
                    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6");
                whole.then_some(())
            })
            .await;
        }
    }

    /// Waits until this node is a master.
    pub async fn wait_for_master(&self, node: usize) {
        wait_until("the replica took its master's place", || async {
            let role = self.nodes[node].info("replication", "role").await;
            (role == "master").then_some(())
        })
        .await;
    }

    /// Returns the URLs of the masters, as the setting names them.
    pub fn urls(&self) -> Vec<String> {
        self.nodes[..3].iter().map(RedisProcess::url).collect()
    }

    /// Counts the values that the masters hold.
    pub async fn count(&self) -> usize {
        let mut count = 0;
        for node in &self.nodes {
            if let Ok(role) = node.connect().await
                && node.info("replication", "role").await == "master"
            {
                drop(role);
                count += node.run::<usize>(&["EVAL", COUNT_VALUES, "0"]).await;
            }
        }
        count
    }
}
