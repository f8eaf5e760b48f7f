//! What a process on this machine uses: CPU time and memory, read from `/proc`.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use serde::Serialize;

/// `/proc` counts CPU time in these; the value is part of Linux's interface.
const TICK: Duration = Duration::from_millis(10);

/// A process on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    id: u32,
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident_bytes: u64,
    /// The most that was ever resident.
    pub(super) peak_bytes: u64,
}

impl Process {
    /// This process.
    pub(super) fn this() -> Self {
        Self {
            id: std::process::id(),
        }
    }

    /// The process with this id; `None` when there is none that can be looked at.
    pub(super) fn with_id(id: u32) -> Option<Self> {
        let process = Self { id };
        process.cpu().map(|_| process)
    }

    /// The process that listens at `address`; `None` when it is not on this machine or belongs to somebody else.
    pub(super) fn listening_at(address: SocketAddr) -> Option<Self> {
        let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listening_inodes(&table, address.port()))
            .collect();
        let sockets: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            holds_one_of(&entry.path().join("fd"), &sockets).then_some(Self { id })
        })
    }

    /// The CPU time that all its threads have used, those that have ended included.
    pub(super) fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).ok()?;
        cpu_of(&stat)
    }

    /// Its memory.
    pub(super) fn memory(self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).ok()?;
        memory_of(&status)
    }
}

/// The inodes of the sockets that listen on `port`, in a table like `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let port = format!("{port:04X}");
    let inode = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next()?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        (state == LISTENING && local.rsplit(':').next() == Some(&*port)).then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds_one_of(descriptors: &Path, sockets: &[String]) -> bool {
    let Ok(entries) = fs::read_dir(descriptors) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

/// The CPU time in a line like `/proc/PID/stat`. The program's name in it may contain anything, but ends at the last `)`.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut columns = rest.split_whitespace().skip(11);
    let user: u32 = columns.next()?.parse().ok()?;
    let system: u32 = columns.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

fn memory_of(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Memory {
        resident_bytes: field("VmRSS:")?,
        peak_bytes: field("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_does_not_confuse_the_columns() {
        let stat = "42 (a ) 1 2 (b) S 1 42 42 0 -1 4194560 5 0 0 0 123 45 0 0 20 0 1 0 99 0 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_millis(1680)));
    }

    #[test]
    fn memory_is_read_from_the_status() {
        let status = "Name:\tpageroom\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            memory_of(status),
            Some(Memory {
                resident_bytes: 1 << 20,
                peak_bytes: 2 << 20
            })
        );
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n\
             1: 0100007F:0BB9 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n\
             2: 0100007F:0BBA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0\n";
        assert_eq!(listening_inodes(table, 3001), ["111"]);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        assert_eq!(Process::listening_at(address), Some(Process::this()));
        assert!(
            Process::this()
                .memory()
                .is_some_and(|memory| memory.peak_bytes >= memory.resident_bytes)
        );
    }
}
