//! What users may do by the tables of PageSpace, as its own programs decide it.

use serde_json::json;

use crate::support::{
    database::Database,
    server::TestServer,
    socket_io::Session,
    token::{SECRET, token},
};

/// The columns that are read, with PageSpace's spelling.
const TABLES: &str = r#"
    CREATE TYPE page_type AS ENUM ('FOLDER', 'DOCUMENT', 'CHANNEL');
    CREATE TYPE member_role AS ENUM ('OWNER', 'ADMIN', 'MEMBER');
    CREATE TABLE drives (id text PRIMARY KEY, "ownerId" text NOT NULL, "isTrashed" boolean NOT NULL DEFAULT false);
    CREATE TABLE drive_roles (id text PRIMARY KEY, "driveId" text NOT NULL, permissions jsonb NOT NULL DEFAULT '{}',
        drive_wide_permissions jsonb);
    CREATE TABLE drive_members ("driveId" text, "userId" text, role member_role NOT NULL DEFAULT 'MEMBER',
        "customRoleId" text, "acceptedAt" timestamp);
    CREATE TABLE pages (id text PRIMARY KEY, type page_type NOT NULL DEFAULT 'DOCUMENT', "driveId" text NOT NULL,
        "isTrashed" boolean NOT NULL DEFAULT false, "isPrivate" boolean NOT NULL DEFAULT false);
    CREATE TABLE page_permissions ("pageId" text, "userId" text, "canView" boolean NOT NULL, "canEdit" boolean NOT NULL,
        "canShare" boolean NOT NULL DEFAULT false, "canDelete" boolean NOT NULL DEFAULT false, "expiresAt" timestamp);
    CREATE TABLE dm_conversations (id text PRIMARY KEY, "participant1Id" text, "participant2Id" text);
    CREATE TABLE conversations (id text PRIMARY KEY, "userId" text, type text, "contextId" text, "isShared" boolean);
    CREATE TABLE agent_workspaces (id text PRIMARY KEY, "ownerId" text, "driveId" text);

    INSERT INTO drives VALUES ('d', 'owner', false), ('gone', 'owner', true), ('other', 'stranger', false);
    INSERT INTO drive_roles VALUES
        ('writers', 'd', '{"doc": {"canView": true, "canEdit": true}, "hidden": {"canView": false}}', '{"canView": true, "canEdit": false}'),
        ('nothing', 'd', '{}', NULL),
        ('elsewhere', 'other', '{"doc": {"canView": true}}', '{"canView": true}');
    INSERT INTO drive_members VALUES
        ('d', 'admin', 'ADMIN', NULL, now()), ('d', 'member', 'MEMBER', NULL, now()),
        ('d', 'invited', 'ADMIN', NULL, NULL), ('gone', 'member', 'MEMBER', NULL, now()),
        ('d', 'writer', 'MEMBER', 'writers', now()), ('d', 'nobody', 'MEMBER', 'nothing', now()),
        ('d', 'mixed', 'MEMBER', 'elsewhere', now()), ('d', 'shut', 'MEMBER', NULL, now());
    INSERT INTO pages VALUES
        ('doc', 'DOCUMENT', 'd', false, false), ('chat', 'CHANNEL', 'd', false, false),
        ('private', 'DOCUMENT', 'd', false, true), ('trash', 'DOCUMENT', 'd', true, false),
        ('lost', 'DOCUMENT', 'gone', false, false), ('hidden', 'DOCUMENT', 'd', false, false);
    INSERT INTO page_permissions VALUES
        ('doc', 'guest', true, false, false, false, NULL), ('private', 'guest', true, true, false, false, NULL),
        ('doc', 'shut', false, true, false, false, NULL),
        ('doc', 'late', true, true, false, false, (now() AT TIME ZONE 'UTC') - interval '1 second'),
        ('doc', 'soon', true, true, false, false, (now() AT TIME ZONE 'UTC') + interval '3 seconds'),
        ('trash', 'guest', true, true, false, false, NULL);
    INSERT INTO dm_conversations VALUES ('x', 'guest', 'member');
    INSERT INTO conversations VALUES ('own', 'guest', 'page', 'private', false), ('shared', 'owner', 'page', 'doc', true),
        ('global', 'owner', 'global', 'doc', true);
    INSERT INTO agent_workspaces VALUES ('mine', 'guest', NULL), ('team', 'owner', 'd');
"#;

async fn user(server: &TestServer, name: &str) -> Session {
    Session::connect(server.address, &json!({ "token": token(name, &json!({})) }))
        .await
        .0
}

/// A server that asks these tables.
async fn server(database: &Database) -> TestServer {
    let url = database.url();
    let arguments = [
        "--jwt-secret",
        SECRET,
        "--access",
        "pagespace",
        "--access-database-url",
        &url,
    ];
    TestServer::start(&arguments).await
}

#[tokio::test]
async fn what_users_may_do_is_what_the_application_decides() {
    let Some(database) = Database::postgres_of(TABLES) else {
        return;
    };
    let server = server(&database).await;
    let channel = |page: &'static str| ("join_channel", page);
    let drive = |id: &'static str| ("join_drive", id);
    let conversation = |id: &'static str| ("join_conversation", id);
    for (name, rooms) in [
        (
            "owner",
            vec![
                (channel("doc"), Some("admin")),
                (channel("private"), Some("admin")),
                (channel("trash"), None),
                (channel("lost"), None),
                (channel("d"), Some("admin")),
                (drive("d"), Some("admin")),
                (drive("gone"), None),
                (("join_session", "team"), Some("edit")),
                (("join_session", "mine"), None),
            ],
        ),
        (
            "admin",
            vec![(channel("private"), Some("admin")), (drive("d"), Some("admin"))],
        ),
        (
            "member",
            vec![
                (channel("doc"), Some("view")),
                (channel("chat"), Some("edit")),
                (channel("private"), None),
                (channel("d"), Some("edit")),
                (drive("d"), Some("edit")),
                (drive("other"), None),
                (("join_activity_page", "doc"), Some("view")),
                (("join_activity_drive", "d"), Some("edit")),
                (("join_dm_conversation", "x"), Some("edit")),
                (conversation("shared"), Some("view")),
                (conversation("global"), None),
                (conversation("own"), None),
                (("join_session", "team"), Some("edit")),
            ],
        ),
        (
            "invited",
            vec![(channel("doc"), None), (channel("d"), None), (drive("d"), None)],
        ),
        (
            "writer",
            vec![
                (channel("doc"), Some("edit")),
                (channel("chat"), Some("view")),
                (channel("private"), None),
                (channel("hidden"), None),
            ],
        ),
        ("nobody", vec![(channel("doc"), None), (drive("d"), Some("edit"))]),
        ("mixed", vec![(channel("doc"), None)]),
        // A row that grants nothing is a row all the same.
        (
            "shut",
            vec![(channel("doc"), None), (channel("chat"), Some("edit"))],
        ),
        ("late", vec![(channel("doc"), None), (drive("d"), None)]),
        (
            "guest",
            vec![
                (channel("doc"), Some("view")),
                (channel("private"), Some("edit")),
                (channel("chat"), None),
                (channel("trash"), None),
                (channel("d"), None),
                (drive("d"), Some("view")),
                (conversation("own"), Some("edit")),
                (conversation("shared"), Some("view")),
                (("join_session", "mine"), Some("edit")),
                (("join_session", "team"), None),
                (("join_dm_conversation", "y"), None),
            ],
        ),
        (
            "stranger",
            vec![
                (channel("doc"), None),
                (channel("'; DROP TABLE pages; --"), None),
                (drive("d"), None),
                (("join_dm_conversation", "x"), None),
                (conversation("shared"), None),
            ],
        ),
    ] {
        let mut session = user(&server, name).await;
        for ((event, id), expected) in rooms {
            session.send(event, Some(7), &json!(id), &[]).await;
            let answer = session.until_told("7").await.body;
            let role = answer["role"].as_str();
            assert_eq!(role, expected, "{name} {event} {id}: {answer}");
            if expected.is_none() {
                assert_eq!(answer["error"]["code"], "forbidden", "{name} {event} {id}");
            }
        }
    }
    // A permission that ends takes its user out.
    let mut soon = user(&server, "soon").await;
    soon.send("join_channel", Some(7), &json!("doc"), &[]).await;
    assert_eq!(soon.until_told("7").await.body["role"], "edit");
    assert_eq!(soon.until_told("access_revoked").await.body["room"], "doc");
    // Without its tables nobody is let in, and everybody may come back.
    database.query("ALTER TABLE drive_members RENAME TO elsewhere");
    let mut owner = user(&server, "owner").await;
    owner.send("join_channel", Some(7), &json!("chat"), &[]).await;
    assert_eq!(owner.until_told("7").await.body["error"]["code"], "unavailable");
    assert!(server.stop().await);
}

#[tokio::test]
async fn members_of_a_drive_hear_who_looks_at_its_pages_as_far_as_they_may_see_these() {
    let Some(database) = Database::postgres_of(TABLES) else {
        return;
    };
    let server = server(&database).await;
    let mut members = Vec::new();
    for name in ["member", "guest", "shut"] {
        let mut session = user(&server, name).await;
        session.send("join_drive", Some(7), &json!("d"), &[]).await;
        assert_eq!(session.until_told("7").await.body["ok"], true, "{name}");
        members.push((name, session));
    }
    let mut owner = user(&server, "owner").await;
    for (page, seen_by) in [
        ("private", ["guest"].as_slice()),
        ("chat", &["member", "shut"]),
        ("doc", &["member", "guest"]),
    ] {
        let body = json!({ "pageId": page });
        owner.send("presence:join_page", Some(7), &body, &[]).await;
        assert_eq!(owner.until_told("7").await.body["ok"], true, "{page}");
        for (name, session) in members.iter_mut().filter(|(name, _)| seen_by.contains(name)) {
            let told = session.until_told("presence:page_viewers").await.body;
            assert_eq!(told["pageId"], page, "{name}: {told}");
            assert_eq!(told["viewers"][0]["userId"], "owner", "{name}: {told}");
        }
    }
    drop(owner);
    for (name, session) in &mut members {
        let mut left = match *name {
            "member" => vec!["chat", "doc"],
            "guest" => vec!["private", "doc"],
            _ => vec!["chat"],
        };
        while !left.is_empty() {
            let told = session.until_told("presence:page_viewers").await.body;
            assert_eq!(told["viewers"], json!([]), "{name}: {told}");
            let page = left.iter().position(|page| told["pageId"] == *page);
            left.remove(page.unwrap_or_else(|| panic!("{name} hears of {told}")));
        }
    }
    assert!(server.stop().await);
}
