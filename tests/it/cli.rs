//! The command line: help that explains, every problem at once, tokens that open doors, exports, and no secret ever shown.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    database::Database,
    http::get,
    process::{Process, run, text},
    server::{ADMIN_TOKEN, TestServer},
    socket::Socket,
    token::SECRET,
};

#[test]
fn help_explains_every_setting() {
    let help = run(&["--help"], &[]);
    assert!(help.status.success());
    insta::assert_snapshot!("help", text(&help.stdout));
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    let database = "postgres://pageroom:hunter2@db.example.com/pages";
    let environment = [
        ("JWT_SECRET", SECRET),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
        ("DATABASE_URL", database),
    ];
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["token", "--help"],
        &["export", "--help"],
    ] {
        let output = run(arguments, &environment);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(
            said.contains("JWT_SECRET") || said.contains("DATABASE_URL"),
            "{said}"
        );
        for secret in [SECRET, ADMIN_TOKEN, "hunter2"] {
            assert!(!said.contains(secret), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let output = run(&["check-config"], &[("JWT_SECRET", SECRET), ("HOST", "0.0.0.0")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "the configuration is good\n");
}

#[test]
fn a_name_that_no_setting_has_is_told_of_with_the_problem_that_it_makes() {
    for command in ["check-config", "serve"] {
        let output = run(&[command], &[("JWT_SECERT", SECRET), ("HOST", "0.0.0.0")]);
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(
            said.contains("no setting is called JWT_SECERT: is JWT_SECRET meant?"),
            "{said}"
        );
        assert!(said.contains("set JWT_SECRET"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[test]
fn what_nothing_listens_to_is_told_of_at_the_start() {
    let port = format!("PAGEROOM_{}", "PORT");
    let said = |port_is: &str, parameters: &str| {
        let url = format!("postgres://ada:hunter2@127.0.0.1/pages{parameters}");
        let given = [("JWT_SECRET", SECRET), ("DATABASE_URL", &*url), (&*port, port_is)];
        let output = run(&["check-config"], &given);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let told = said("8080", "?connection_limit=5&pool_timeout=10&connect_timeout=3");
    for line in [
        format!("no setting is called {port}: is PORT meant?"),
        "DATABASE_URL: `connection_limit` is not used: PAGEROOM_STORE_READERS".to_owned(),
        "DATABASE_URL: `pool_timeout` is not used".to_owned(),
        "DATABASE_URL: `connect_timeout` is not used".to_owned(),
    ] {
        assert!(told.contains(&line), "{line}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
    // What Kubernetes makes for a service of this name.
    assert_eq!(said("tcp://10.0.0.1:80", "?sslmode=disable"), "");
}

#[tokio::test]
async fn a_store_is_looked_at_before_the_first_start_and_while_a_server_uses_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/pages.db", folder.path().display());
    let check = |url: &str| run(&["check-config", "--connect"], &[("DATABASE_URL", url)]);
    let first = check(&url);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("the first start makes it"));
    let made = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(made, 0, "nothing is changed there");
    let server = Process::start(&[("DATABASE_URL", &url)]);
    let mut ada = Client::join_at(server.address().await, "/ws/page", 1).await;
    ada.write_durably("one").await;
    let beside = check(&url);
    assert!(beside.status.success(), "{}", text(&beside.stderr));
    assert!(text(&beside.stdout).contains("the store can be used"));
    ada.write_durably("two").await;
    let nowhere = check(&format!("sqlite://{}/none/pages.db", folder.path().display()));
    assert!(!nowhere.status.success());
    assert!(text(&nowhere.stderr).contains("there is no folder for it"));
}

#[tokio::test]
async fn a_server_that_cannot_listen_says_what_helps() {
    let server = TestServer::start(&[]).await;
    let port = server.address.port().to_string();
    for (host, port, words) in [
        ("127.0.0.1", &*port, "stop it, or set PORT"),
        ("192.0.2.1", "0", "set HOST to one that it has"),
    ] {
        let environment = [
            ("HOST", host),
            ("PORT", port),
            ("DATABASE_URL", "memory:"),
            ("PAGEROOM_AUTH", "open"),
        ];
        let output = run(&["serve"], &environment);
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(
            said.contains(&format!("cannot listen on {host}")) && said.contains(words),
            "{said}"
        );
    }
}

#[test]
fn a_database_that_is_not_there_is_named_in_plain_words() {
    let Some(database) = Database::postgres() else {
        return;
    };
    let url = database.url();
    let (server, _) = url.rsplit_once('/').expect("an address");
    for (address, words) in [
        (format!("{server}/no_such_database"), "create it with createdb"),
        (
            server.replace("//postgres@", "//no_such_role:secret@") + "/postgres",
            "check user and password",
        ),
    ] {
        let output = run(&["check-config", "--connect"], &[("DATABASE_URL", &address)]);
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("at line") && !said.contains("secret"), "{said}");
    }
}

#[test]
fn all_problems_are_listed_at_once_and_without_the_secrets() {
    let environment = [
        ("HOST", "0.0.0.0"),
        ("DATABASE_URL", "mysql://pageroom:hunter2@db.example.com/pages"),
        ("JWT_SECRET", "too short"),
        ("PAGEROOM_ADMIN_TOKEN", "short as well"),
        ("CORS_ORIGIN", "*, https://good.example.com"),
        ("PAGEROOM_TRUSTED_PROXIES", "everybody"),
        ("PAGEROOM_KEEPALIVE_SECONDS", "25"),
        ("PAGEROOM_CONNECTION_TIMEOUT_SECONDS", "20"),
        ("PAGEROOM_SNAPSHOT_INTERVAL_SECONDS", "0"),
        ("PAGEROOM_MAX_NESTING", "10000"),
        ("PAGEROOM_MAX_PAGE_BYTES", "1000"),
    ];
    for command in ["check-config", "serve", "migrate"] {
        let output = run(&[command], &environment);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert_eq!(text(&output.stdout), "", "{command}");
        let said = text(&output.stderr);
        for named in [
            "DATABASE_URL",
            "JWT_SECRET",
            "PAGEROOM_ADMIN_TOKEN",
            "CORS_ORIGIN",
            "PAGEROOM_TRUSTED_PROXIES",
            "PAGEROOM_KEEPALIVE_SECONDS",
            "PAGEROOM_CONNECTION_TIMEOUT_SECONDS",
            "PAGEROOM_SNAPSHOT_INTERVAL_SECONDS",
            "PAGEROOM_MAX_NESTING",
            "PAGEROOM_MAX_MESSAGE_BYTES",
        ] {
            assert!(said.contains(named), "{command}: {named} is missing:\n{said}");
        }
        for secret in ["hunter2", "too short", "short as well"] {
            assert!(!said.contains(secret), "{command}:\n{said}");
        }
    }
    let same = run(
        &["check-config"],
        &[("JWT_SECRET", SECRET), ("PAGEROOM_ADMIN_TOKEN", SECRET)],
    );
    assert!(text(&same.stderr).contains("the same"), "{}", text(&same.stderr));
}

#[test]
fn an_unreadable_value_is_one_of_the_problems_and_repeats_no_secret() {
    let output = run(
        &["check-config"],
        &[
            ("PORT", "many"),
            ("JWT_SECRET", SECRET),
            ("PAGEROOM_ADMIN_TOKEN", "hunter2"),
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("PORT:") && said.contains("PAGEROOM_ADMIN_TOKEN"),
        "{said}"
    );
    assert!(!said.contains(SECRET) && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_minted_token_opens_the_pages_it_names() {
    let secret = [("JWT_SECRET", SECRET)];
    let server = TestServer::start(&["--jwt-secret", SECRET]).await;
    let mint = |arguments: &[&str]| {
        let output = run(&[&["token"], arguments].concat(), &secret);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    let edit = mint(&["--user", "ada", "--page", "team/*", "--page", "notes"]);
    for page in ["team/a", "notes"] {
        let mut ada = Client::join_at(server.address, &format!("/ws/{page}?token={edit}"), 1).await;
        ada.write_durably("hello").await;
    }
    let other = Socket::open(server.address, &format!("/ws/other?token={edit}"))
        .await
        .closed()
        .await;
    assert_eq!(other.code, 4403);
    let view = mint(&["--user", "rita", "--role", "view"]);
    let mut rita = Client::join_at(server.address, &format!("/ws/notes?token={view}"), 2).await;
    rita.write("no").await;
    rita.until("the refusal", |rita| !rita.refusals.is_empty()).await;
    let admin = mint(&["--user", "root", "--role", "admin", "--expires", "5m"]);
    assert_eq!(
        get(server.address, &format!("/api/pages/notes?token={admin}"))
            .await
            .status,
        200
    );

    let without = run(&["token", "--user", "ada"], &[]);
    assert_eq!(without.status.code(), Some(1));
    assert!(
        text(&without.stderr).contains("JWT_SECRET"),
        "{}",
        text(&without.stderr)
    );
    let weak = run(&["token", "--user", "ada"], &[("JWT_SECRET", "too short")]);
    assert_eq!(
        weak.status.code(),
        Some(1),
        "no server takes a token of a secret like this"
    );
    assert!(!text(&weak.stderr).contains("too short"));
}

#[tokio::test]
async fn a_page_can_be_exported() {
    for database in Database::each() {
        let server = TestServer::start_on(database.open().await, &[]).await;
        Client::join(&server, "team/page", 1)
            .await
            .write_durably("take me away")
            .await;
        assert!(server.stop().await);
        let url = database.url();
        let environment = [("DATABASE_URL", url.as_str())];
        let export = |arguments: &[&str]| run(&[&["export"], arguments].concat(), &environment);
        let update = export(&["team/page"]);
        assert!(update.status.success(), "{}", text(&update.stderr));
        assert_eq!(crate::support::replica::text_of(&update.stdout), "take me away");
        assert_eq!(
            text(&export(&["team/page", "--format", "text"]).stdout),
            "take me away"
        );
        let json = export(&["team/page", "--format", "json"]);
        let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(json, json!({ "text": "take me away" }));
        let field = export(&["team/page", "--format", "json", "--field", "text"]);
        assert_eq!(text(&field.stdout), "\"take me away\"");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("page.txt");
        let file_name = file.to_str().expect("a path");
        let written = export(&["team/page", "--format", "text", "--output", file_name]);
        assert!(written.status.success() && written.stdout.is_empty());
        assert_eq!(std::fs::read_to_string(&file).expect("the file"), "take me away");
        for (arguments, named) in [
            (&["none"][..], "`none`"),
            (&["team/page", "--format", "json", "--field", "none"], "`none`"),
            (&["a/../b"], "path segment"),
        ] {
            let refused = export(arguments);
            assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
            assert!(
                text(&refused.stderr).contains(named),
                "{arguments:?}: {}",
                text(&refused.stderr)
            );
        }
    }
}

#[tokio::test]
async fn a_schema_is_brought_up_to_date_without_starting() {
    for database in Database::each() {
        let url = database.url();
        for _ in 0..2 {
            let output = run(&["migrate"], &[("DATABASE_URL", &url)]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert_eq!(text(&output.stdout), "the schema is up to date\n");
        }
        let server = TestServer::start_on(database.open().await, &[]).await;
        Client::join(&server, "page", 1)
            .await
            .write_durably("hello")
            .await;
    }
}

#[tokio::test]
async fn the_log_says_that_the_server_is_open_and_nothing_of_what_people_say() {
    let environment = [
        ("DATABASE_URL", "memory:"),
        ("RUST_LOG", "trace"),
        ("PAGEROOM_ADMIN_TOKEN", ADMIN_TOKEN),
    ];
    let mut server = Process::start(&environment);
    let address = server.address().await;
    let first = server.log().lines().next().unwrap_or_default().to_owned();
    assert!(first.contains("running open"), "{first}");
    let mut ada = Client::join_at(address, "/ws/private-page?token=sesame", 1).await;
    ada.write_durably("between us").await;
    ada.show(&json!({ "name": "Ada Secretive" })).await;
    ada.until_shown(1, Some(&json!({ "name": "Ada Secretive" })))
        .await;
    ada.socket.say(b"\x00\x07between us".to_vec()).await;
    ada.closed().await;
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    crate::support::http::get_with(address, "/api/pages?token=sesame", &headers).await;
    server.signal("TERM");
    server.ended().await;
    for secret in ["sesame", "between us", "Secretive", ADMIN_TOKEN] {
        assert!(
            !server.log().contains(secret),
            "{secret} in the log:\n{}",
            server.log()
        );
    }
}

#[tokio::test]
async fn the_log_can_be_json() {
    let mut server = Process::start(&[("DATABASE_URL", "memory:"), ("PAGEROOM_LOG_FORMAT", "json")]);
    server.address().await;
    server.signal("TERM");
    assert!(server.ended().await.success());
    for line in server.log().lines() {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        assert!(
            entry["level"].is_string() && entry["message"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_database_file_that_may_not_be_written_is_named_as_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("pages.db");
    let url = format!("sqlite://{}", file.display());
    assert!(run(&["migrate"], &[("DATABASE_URL", &url)]).status.success());
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a file of ours");
    };
    mode(&file, 0o444);
    mode(folder.path(), 0o555);
    // Permissions mean nothing to root unless it is started without its capabilities.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let output = match is_root {
        true => Command::new("setpriv")
            .args([
                "--bounding-set=-all",
                "--inh-caps=-all",
                env!("CARGO_BIN_EXE_pageroom"),
            ])
            .args(["serve", "--port", "0", "--database-url", &url])
            .output()
            .expect("setpriv, of util-linux"),
        false => run(&["serve", "--port", "0"], &[("DATABASE_URL", &url)]),
    };
    mode(folder.path(), 0o755);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("read-only") && said.contains("check the permissions"),
        "{said}"
    );
}
