//! Reads the address of a PostgreSQL server as people write it: with several hosts, what other libraries call parameters, and
//! passwords as they are.

use percent_encoding::percent_decode_str;

/// An address, taken apart: one URL for each host, and what sqlx does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// One for each host, in the order in which they are tried.
    pub(crate) urls: Vec<String>,
    /// What each session sets, with the schema in which tables are looked for, as Prisma writes it.
    pub(crate) settings: Vec<(String, String)>,
    /// It leads through a pooler that lends a connection for a transaction, as Prisma writes it.
    pub(crate) pooled: bool,
    /// What other tools would do with it, and nothing here does.
    pub(crate) unused: Vec<&'static str>,
}

/// What Prisma and node-postgres read of how they connect.
const UNUSED: [&str; 3] = ["connection_limit", "pool_timeout", "connect_timeout"];

impl Place {
    /// Takes an address apart. Problems name no part of it that may be secret.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("has no scheme")?;
        let (login, rest) = split_login(rest);
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, query),
            None => (rest, ""),
        };
        let (hosts, database) = match place.split_once('/') {
            Some((hosts, database)) => (hosts, format!("/{database}")),
            None => (place, String::new()),
        };
        let mut found = Self::default();
        let mut kept = Vec::new();
        let (mut listed, mut ports) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "schema" if value.is_empty() => {}
                "schema" => found.set("search_path", value)?,
                "target_session_attrs" => primary(value)?,
                "pgbouncer" => found.pooled = value == "true",
                // Of node-postgres and libpq; they change nothing here.
                "uselibpqcompat" | "load_balance_hosts" => {}
                name if UNUSED.contains(&name) => {
                    let unused = UNUSED.into_iter().filter(|unused| *unused == name);
                    found.unused.extend(unused.filter(|_| !value.is_empty()));
                }
                name if name.starts_with("options[") && name.ends_with(']') => {
                    found.set(name.trim_start_matches("options[").trim_end_matches(']'), value)?;
                }
                "host" if value.contains(',') => listed = Some(value),
                "port" if value.contains(',') => ports = Some(value),
                _ => kept.push(pair),
            }
        }
        // With a login there must be a host before the path, also where a parameter names the one that counts.
        let here = |host: &str| match login {
            Some(_) if host.is_empty() || host.starts_with(':') => format!("localhost{host}"),
            _ => host.to_owned(),
        };
        let login = login.map_or_else(String::new, |login| format!("{}@", encoded(login)));
        let query = |more: Option<String>| {
            let pairs: Vec<&str> = kept.iter().copied().chain(more.as_deref()).collect();
            match pairs.is_empty() {
                true => String::new(),
                false => format!("?{}", pairs.join("&")),
            }
        };
        found.urls = match listed {
            // libpq's way: hosts and ports in lists beside one another, or one port for all.
            Some(listed) => {
                let ports: Vec<&str> = ports.map_or_else(Vec::new, |ports| ports.split(',').collect());
                let each = listed.split(',').enumerate().map(|(n, host)| {
                    let port = ports.get(n).or(ports.first()).map(|port| format!("&port={port}"));
                    let more = format!("host={host}{}", port.unwrap_or_default());
                    format!("{scheme}://{login}{}{database}{}", here(hosts), query(Some(more)))
                });
                each.collect()
            }
            None => hosts
                .split(',')
                .map(|host| format!("{scheme}://{login}{}{database}{}", here(host), query(None)))
                .collect(),
        };
        Ok(found)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let decoded = |text: &str| {
            let text = text.replace('+', " ");
            let text = percent_decode_str(&text).decode_utf8().map(String::from);
            text.map_err(|_| "has options that are no text".to_owned())
        };
        self.settings.push((decoded(name)?, decoded(value)?));
        Ok(())
    }
}

/// Refuses an address that asks for a server that is only read: a store is written, so only a primary will do. Libraries differ in what
/// else they know; of that nothing can be promised here.
fn primary(value: &str) -> Result<(), String> {
    match value {
        "read-write" | "primary" | "any" | "prefer-primary" => Ok(()),
        "read-only" | "standby" | "prefer-standby" => {
            Err("asks for a standby (`target_session_attrs`), which cannot be written".to_owned())
        }
        _ => Err("has `target_session_attrs` that are none: read-write, primary or any".to_owned()),
    }
}

/// User and password, and what follows. A password may have any character; its end is the last `@` before the name of a host.
fn split_login(rest: &str) -> (Option<&str>, &str) {
    let Some((login, place)) = rest.rsplit_once('@') else {
        return (None, rest);
    };
    let plain = |text: &str| !text.contains(['/', '?', '#']);
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    // An `@` in a parameter, behind a host without a login: `host/db?user=a@b`, `host:5432/db?user=a@b`.
    let port = password.split(['/', '?']).next().unwrap_or_default();
    let is_port = !plain(password) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_parameter = is_port && password.contains('?') && password.contains('=');
    // And behind a host with one: `u:p@host/db?options=a@b`.
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let query = behind.split_once('?').map_or("", |(_, query)| query);
    let has_login = authority.contains('@');
    let in_parameter = has_login && query.split('@').next().is_some_and(|start| start.contains('='));
    if !plain(user) || is_parameter || (in_parameter && query.contains('@')) {
        return match authority.rsplit_once('@') {
            Some((login, _)) => (Some(login), rest.get(login.len() + 1..).unwrap_or_default()),
            None => (None, rest),
        };
    }
    (Some(login), place)
}

/// What would end a login before its end, written so that it does not. Whoever has encoded it already is left alone.
fn encoded(login: &str) -> String {
    let mut text = String::with_capacity(login.len());
    let is_hex = |at: usize| login.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    for (at, letter) in login.char_indices() {
        match letter {
            '/' | '?' | '#' | '[' | ']' | '@' | ' ' | '\\' | '^' | '|' | '"' | '<' | '>' | '`' | '{'
            | '}' => {
                text.push_str(&format!("%{:02X}", u32::from(letter)));
            }
            '%' if !(is_hex(at + 1) && is_hex(at + 2)) => text.push_str("%25"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(url: &str) -> Vec<String> {
        Place::parse(url).expect("an address").urls
    }

    #[test]
    fn passwords_are_taken_as_they_are() {
        for (given, read) in [
            ("postgres://u:p@h/d", "postgres://u:p@h/d"),
            ("postgres://u:p/w@h/d", "postgres://u:p%2Fw@h/d"),
            ("postgres://u:p#w@h/d", "postgres://u:p%23w@h/d"),
            ("postgres://u:12#34@h/d", "postgres://u:12%2334@h/d"),
            (
                "postgres://u:p?w@h:5432/d?sslmode=disable",
                "postgres://u:p%3Fw@h:5432/d?sslmode=disable",
            ),
            ("postgres://u:p@w@h/d", "postgres://u:p%40w@h/d"),
            ("postgres://u:p%2Fw@h/d", "postgres://u:p%2Fw@h/d"),
            ("postgres://u:100%@h/d", "postgres://u:100%25@h/d"),
            ("postgres://u:a b[c]@h/d", "postgres://u:a%20b%5Bc%5D@h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://h/d", "postgres://h/d"),
            (
                "postgres:///d?host=/run/postgresql",
                "postgres:///d?host=/run/postgresql",
            ),
            (
                "postgres://u:p@/d?host=/run/postgresql",
                "postgres://u:p@localhost/d?host=/run/postgresql",
            ),
            ("postgres://u@:5433/d", "postgres://u@localhost:5433/d"),
            ("postgres://h/d?user=a@b", "postgres://h/d?user=a@b"),
            ("postgres://h:5432/d?user=a@b", "postgres://h:5432/d?user=a@b"),
            ("postgres://u:p@h/d?options=a@b", "postgres://u:p@h/d?options=a@b"),
        ] {
            assert_eq!(urls(given), [read], "{given}");
        }
    }

    #[test]
    fn several_hosts_are_several_addresses() {
        assert_eq!(
            urls("postgres://u:p@a:1,b:2,c/d?target_session_attrs=read-write&sslmode=disable"),
            [
                "postgres://u:p@a:1/d?sslmode=disable",
                "postgres://u:p@b:2/d?sslmode=disable",
                "postgres://u:p@c/d?sslmode=disable"
            ]
        );
        assert_eq!(
            urls("postgres:///d?host=/run/a,/run/b&port=1,2"),
            [
                "postgres:///d?host=/run/a&port=1",
                "postgres:///d?host=/run/b&port=2"
            ]
        );
        assert!(Place::parse("postgres://h/d?target_session_attrs=standby").is_err());
        assert!(Place::parse("postgres://h/d?target_session_attrs=maybe").is_err());
    }

    #[test]
    fn parameters_of_others_are_understood_or_change_nothing() {
        let place = Place::parse(
            "postgres://h/d?schema=my%20pages&options[statement_timeout]=5s&connection_limit=5&pgbouncer=true",
        );
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let read = Place {
            urls: vec!["postgres://h/d".to_owned()],
            settings: vec![
                setting("search_path", "my pages"),
                setting("statement_timeout", "5s"),
            ],
            pooled: true,
            unused: vec!["connection_limit"],
        };
        assert_eq!(place, Ok(read));
    }
}
