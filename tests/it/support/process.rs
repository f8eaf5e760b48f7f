//! The program itself, as people run it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use super::until;

/// The program with nothing of our own surroundings, so that what a developer has set decides no test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pageroom"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let environment = environment.iter().copied();
    program()
        .args(arguments)
        .envs(environment)
        .output()
        .expect("a program that starts")
}

/// Text that a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A server in a process of its own, killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a server on a free port of the loopback address.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        let mut command = program();
        command.args(["serve", "--host", "127.0.0.1", "--port", "0"]);
        command.envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// Starts what `command` says.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("a program that starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, lines) = (child.stderr.take().expect("a pipe"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
    }

    /// The address it listens on, once it does.
    pub(crate) async fn address(&self) -> SocketAddr {
        let mut address = None;
        until("the server to listen", async || {
            address = self
                .log()
                .split("ws://")
                .nth(1)
                .and_then(|rest| rest.split('/').next()?.parse().ok());
            address.is_some()
        })
        .await;
        address.expect("an address")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &id])
            .status();
        assert!(sent.expect("a shell").success(), "a process to signal");
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process to end", async || {
            status = self.child.try_wait().expect("a process of ours");
            status.is_some()
        })
        .await;
        status.expect("an end")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
