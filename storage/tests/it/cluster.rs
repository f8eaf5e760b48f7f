//! A PostgreSQL server of a test's own, which it may stop and start.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::database::skipped;

/// A running server with an empty database; stopped and deleted when dropped.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Cluster {
    /// `None`, and a line that says so, when `PAGEROOM_TEST_POSTGRES_BIN` names no folder with `initdb` and `pg_ctl`.
    pub(crate) fn start_new() -> Option<Self> {
        let Some(programs) = env::var_os("PAGEROOM_TEST_POSTGRES_BIN").map(PathBuf::from) else {
            skipped("PAGEROOM_TEST_POSTGRES_BIN names no folder with initdb and pg_ctl");
            return None;
        };
        let cluster = Self {
            programs,
            folder: folder(),
            port: free_port(),
        };
        run(cluster.program("initdb").args([
            "--username=pageroom",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ]));
        cluster.start();
        Some(cluster)
    }

    /// Another server that follows this one and cannot be written.
    pub(crate) fn start_standby(&self) -> Self {
        let folder = folder();
        let standby = Self {
            programs: self.programs.clone(),
            folder,
            port: free_port(),
        };
        let data = standby.folder.path().join("data");
        run(standby
            .program("pg_basebackup")
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
                "--pgdata",
            ])
            .arg(data)
            .args(["--dbname", &self.url("pageroom")]));
        standby.start();
        standby
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The `DATABASE_URL` of its database, for this user.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgres://{user}:a-secret@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&self) {
        let settings = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
            self.port,
            self.sockets().display()
        );
        let log = self.folder.path().join("log");
        run(self
            .program("pg_ctl")
            .args(["start", "--wait", "--options", &settings, "--log"])
            .arg(log));
    }

    /// Stops it as if it had crashed: what runs is torn off.
    pub(crate) fn crash(&self) {
        run(self
            .program("pg_ctl")
            .args(["stop", "--wait", "--mode=immediate"]));
    }

    /// Asks this role for its password from now on.
    pub(crate) fn demand_password_of(&self, role: &str) {
        let file = self.folder.path().join("data/pg_hba.conf");
        let trusting = fs::read_to_string(&file).expect("rules");
        let demanding = format!("host all {role} 127.0.0.1/32 scram-sha-256\n{trusting}");
        fs::write(&file, demanding).expect("a file that can be written");
        self.crash();
        self.start();
    }

    /// The folder of its socket.
    pub(crate) fn sockets(&self) -> &Path {
        self.folder.path()
    }

    /// A file beside its data.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One of its programs, run as whoever runs it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if runs_as_root() {
            // The server refuses to run as root.
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir("/")
            .env("PGDATA", self.folder.path().join("data"));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        // Stopped already, when a test ended in between.
        let _ = stop
            .args(["stop", "--wait", "--mode=immediate"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// A folder in which a server may write.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    if runs_as_root() {
        run(Command::new("chown").arg("postgres").arg(folder.path()));
    }
    folder
}

/// A port of the loopback address that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .expect("a free port")
        .port()
}

/// Whether this process may do everything to files.
pub(crate) fn runs_as_root() -> bool {
    use std::os::unix::fs::MetadataExt;

    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|process| process.uid() == 0)
}

/// Runs a program to its end and expects it to succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let status = output.expect("a program that starts");
    assert!(status.success(), "{command:?}: {status}");
}
