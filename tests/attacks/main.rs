//! Attacks beside a healthy workload. Judged are the workload (latency, lost and repeated publications), new clients, and the
//! memory of the process, which holds the server, its clients and the attackers. The bounds leave room for a busy machine.

#[path = "../common/mod.rs"]
mod common;

mod attack;
mod workload;

use std::{future::Future, sync::Arc, time::Duration};

use tidings::testing::TestServer;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};
use workload::Workload;

/// Attackers at a time.
const ATTACKERS: usize = 4;
/// Most rounds of one attacker; the workload usually ends before.
const ROUNDS: usize = 100_000;
/// Attacks run one after the other: each is to be judged alone.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Repeats an attack by some attackers, each until it was done [`ROUNDS`] times or the workload is complete.
async fn beside_a_workload<A, F>(attack: A)
where
    A: Fn(Arc<TestServer>, usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let _alone = ALONE.lock().await;
    let done = async {
        let server = Arc::new(TestServer::start().await);
        let workload = Workload::join(&server).await;
        let before = resident();
        let mut attackers = JoinSet::new();
        for number in 0..ATTACKERS {
            let (server, attack) = (Arc::clone(&server), attack.clone());
            attackers.spawn(async move {
                for round in 0..ROUNDS {
                    // An attacker that is refused or cut off comes back.
                    attack(Arc::clone(&server), number * ROUNDS + round).await;
                    sleep(Duration::from_millis(1)).await;
                }
            });
        }
        workload.run(&server).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 512 << 20, "the process grew by {grown} bytes");
        attackers.shutdown().await;
    };
    timeout(Duration::from_secs(120), done).await.unwrap();
}

/// Resident memory of this process, in bytes; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}

macro_rules! attacks {
    ($($attack:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $attack() {
            beside_a_workload(attack::$attack).await;
        }
    )*};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack() {
    beside_a_workload(|_, _| sleep(Duration::from_millis(100))).await;
}

attacks![
    initials,
    garbage_datagrams,
    idle_tcp_connections,
    slow_websocket_requests,
    slow_http_requests,
    requests_of_one_session,
    refused_tokens,
    invalid_refreshes,
    refused_channels,
    readers_that_never_read,
    new_channels,
    churn,
    random_frames,
];
