//! What the limit of open files does to a server: it is raised, told of where it is too low, and hangs nobody when it is reached.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    access::now,
    support::{
        client::Client,
        database::skipped,
        http::{get, post},
        process::{Process, program},
        replica::{Replica, insertion},
        socket::{Heard, Socket},
        soon, until,
    },
};

/// Whoever is refused learns that within this time, and what a slow machine takes for those who are let in.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Starts a server whose process may open so many files: what it has at first, and as far as it may raise that.
fn limited(soft: u32, hard: u32, environment: &[(&str, &str)]) -> Process {
    let pageroom = program();
    let mut shell = std::process::Command::new("/bin/sh");
    let limits = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
    shell
        .env_clear()
        .args(["-c", &limits])
        .arg(pageroom.get_program());
    shell.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
    shell.envs(environment.iter().copied());
    Process::spawn(shell)
}

/// The limits of a process, soft and hard; `None` where the system does not show them.
fn limits(process: &Process) -> Option<(String, String)> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).ok()?;
    let files = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let mut words = files.split_whitespace().skip(3).map(str::to_owned);
    Some((words.next()?, words.next()?))
}

/// What becomes of whoever joins.
enum Outcome {
    Joined(Box<Client>),
    Refused,
}

/// Joins a page, or is refused: with a word, or by a connection that ends.
async fn join(address: SocketAddr, author: u64) -> Outcome {
    let Ok(stream) = TcpStream::connect(address).await else {
        return Outcome::Refused;
    };
    let Some(socket) = Socket::try_over(stream, "/ws/page").await else {
        return Outcome::Refused;
    };
    let mut client = Client::new(socket, Replica::new(author));
    client.ask().await;
    while !client.synced {
        match client.socket.hear().await {
            Heard::Frame(frame) => client.take(&frame).await,
            Heard::Closed(_) => return Outcome::Refused,
        }
    }
    Outcome::Joined(Box::new(client))
}

/// Joins until so many have been refused. Gives those who are in, and how long the slowest of either took.
async fn crowd(address: SocketAddr, refusals: usize) -> (Vec<Client>, Duration, Duration) {
    let (mut members, mut refused) = (Vec::new(), 0);
    let (mut joining, mut refusing) = (Duration::ZERO, Duration::ZERO);
    while refused < refusals {
        let began = now();
        match soon(
            "a place or a refusal",
            Box::pin(join(address, 2 + members.len() as u64)),
        )
        .await
        {
            Outcome::Joined(client) => {
                joining = joining.max(began.elapsed());
                members.push(*client);
            }
            Outcome::Refused => {
                refusing = refusing.max(began.elapsed());
                refused += 1;
            }
        }
        assert!(members.len() < 1000, "nobody is refused");
    }
    (members, joining, refusing)
}

async fn probes_answer(address: SocketAddr) {
    for path in ["/healthz", "/readyz"] {
        let answer = get(address, path).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn as_many_files_are_opened_as_the_system_lets() {
    for (connections, is_told) in [("20000", true), ("0", true), ("50", false)] {
        let server = limited(
            64,
            200,
            &[
                ("DATABASE_URL", "memory:"),
                ("PAGEROOM_MAX_CONNECTIONS", connections),
            ],
        );
        server.address().await;
        match limits(&server) {
            Some((soft, hard)) => assert_eq!((&*soft, &*hard), ("200", "200")),
            None => skipped("this system shows no limits of processes"),
        }
        let log = server.log();
        let warning = log.lines().find(|line| line.contains("open fewer files"));
        assert_eq!(warning.is_some(), is_told, "{connections}: {log}");
        if let Some(warning) = warning {
            for told in [
                "WARN",
                "open_files=200",
                "connections=72",
                &format!("wanted={connections}"),
                "PAGEROOM_MAX_CONNECTIONS",
                "ulimit -n",
                "LimitNOFILE=",
            ] {
                assert!(warning.contains(told), "{told}: {warning}");
            }
        }
    }
}

#[tokio::test]
async fn whoever_comes_when_all_files_are_taken_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("pages.db").display());
    let server = limited(64, 200, &[("DATABASE_URL", &url)]);
    let address = server.address().await;
    let (members, joining, refusing) = crowd(address, 200).await;
    assert_eq!(members.len(), 72, "as many as the start says");
    assert!(
        refusing <= AT_ONCE + joining,
        "refused after {refusing:?}, let in after {joining:?}"
    );
    probes_answer(address).await;
    // What needs files of its own still has them: processes that read, and further connections to the store.
    let updated = post(address, "/api/pages/other/updates", insertion(1, 0, "one")).await;
    assert!(updated.status.is_success(), "{}", updated.text());
    let content = get(address, "/api/pages/other/content?format=json").await;
    assert_eq!(content.status.as_u16(), 200, "{}", content.text());
    for client in members {
        client.leave().await;
    }
    joins_again(address).await;
}

/// Connections that end are soon counted no more, and then whoever comes is let in.
async fn joins_again(address: SocketAddr) {
    let mut member = None;
    until("a place", async || match Box::pin(join(address, 1)).await {
        Outcome::Joined(client) => {
            member = Some(client);
            true
        }
        Outcome::Refused => false,
    })
    .await;
    let mut member = member.expect("a place");
    Box::pin(member.write_durably("in again")).await;
    probes_answer(address).await;
}

/// So few that even connections on which nothing is asked take all of them.
const OPEN_FILES: u32 = 64;
/// So many connections are more than there are files.
const CROWD: u32 = 100;
/// Connections on which nothing is asked are hung up on after this time anyway.
const SILENT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn whoever_comes_when_there_is_no_file_left_is_hung_up_on_at_once() {
    // Fewer than connections without a request may be, so that it is the files that run out.
    let server = limited(64, OPEN_FILES, &[("DATABASE_URL", "memory:")]);
    let address = server.address().await;
    let mut silent = JoinSet::new();
    for _ in 0..CROWD {
        let mut stream = TcpStream::connect(address).await.expect("a server that listens");
        silent.spawn(async move { stream.read_u8().await.map(drop) });
    }
    let began = now();
    for _ in OPEN_FILES..CROWD {
        let ended = soon("a connection to end", silent.join_next()).await;
        assert!(
            ended.expect("a connection").expect("a task").is_err(),
            "nothing is said to it"
        );
    }
    let waited = began.elapsed();
    assert!(waited < SILENT / 2, "hung up on after {waited:?}");
    // Those that are left say nothing either, and give way to those that do.
    probes_answer(address).await;
    assert!(
        began.elapsed() < SILENT / 2,
        "answered after {:?}",
        began.elapsed()
    );
    drop(silent);
    joins_again(address).await;
    assert!(
        server.log().contains("connections could not be accepted"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn connections_that_say_nothing_give_way_to_those_that_do() {
    let environment = [("DATABASE_URL", "memory:"), ("PAGEROOM_MAX_CONNECTIONS", "4")];
    let server = limited(1000, 1000, &environment);
    let address = server.address().await;
    let began = now();
    let mut silent = JoinSet::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.expect("a server that listens");
        silent.spawn(async move { stream.read_u8().await.map(drop) });
    }
    // Also one that has begun to ask is no reason to wait.
    let mut slow = TcpStream::connect(address).await.expect("a server that listens");
    slow.write_all(b"GET /healthz HTTP/1.1\r\n")
        .await
        .expect("a connection");
    for _ in 0..100 {
        probes_answer(address).await;
    }
    let Outcome::Joined(mut member) = Box::pin(join(address, 1)).await else {
        panic!("who edits is refused");
    };
    Box::pin(member.write_durably("let in")).await;
    assert!(began.elapsed() < SILENT, "the silent ones had their time");
    // Many of them are still there: only as many have gone as had to.
    let mut gone = 0;
    while silent.try_join_next().is_some() {
        gone += 1;
    }
    assert!(gone < 200, "{gone}");
}
