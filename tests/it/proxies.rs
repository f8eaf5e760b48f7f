//! Behind proxies, with the configurations that operators copy: sockets, polling, paths, and whose address it is.

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use hyper::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    client::Client,
    cluster::{free_port, runs_as_root},
    database::skipped,
    http::{get, get_with, send},
    server::{ADMIN_TOKEN, TestServer},
    token::{SECRET, token},
    until,
};

/// A proxy in front of a server.
struct Proxy {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The file that operators copy, with the addresses of this test.
fn configuration(file: &str, listen: &str, own: &str, server: &TestServer) -> String {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file of the project");
    assert!(
        text.contains(listen) && text.contains("127.0.0.1:3001"),
        "{file} says where"
    );
    text.replace(listen, own)
        .replace("127.0.0.1:3001", &server.address.to_string())
}

fn program(variable: &str) -> Option<Command> {
    let program = env::var_os(variable);
    if program.is_none() {
        skipped(&format!("{variable} names no proxy"));
    }
    program.map(Command::new)
}

async fn start(mut command: Command, port: u16, folder: TempDir) -> Proxy {
    let process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let proxy = Proxy {
        process: process.expect("a proxy that starts"),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        _folder: folder,
    };
    until("the proxy to listen", async || {
        TcpStream::connect(proxy.address).await.is_ok()
    })
    .await;
    proxy
}

async fn nginx(server: &TestServer) -> Option<Proxy> {
    let mut command = program("PAGEROOM_TEST_NGINX")?;
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let site = configuration(
        "deploy/nginx.conf",
        "listen 80;",
        &format!("listen 127.0.0.1:{port};"),
        server,
    );
    fs::write(folder.path().join("site.conf"), site).expect("a file");
    let at = folder.path().display();
    let user = if runs_as_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .collect();
    // One process: a worker would outlive a master that is killed.
    let main = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\n{user}\npid {at}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
         include {at}/site.conf;\n}}\n"
    );
    fs::write(folder.path().join("nginx.conf"), main).expect("a file");
    command
        .arg("-e")
        .arg("stderr")
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(folder.path().join("nginx.conf"));
    Some(start(command, port, folder).await)
}

async fn haproxy(server: &TestServer) -> Option<Proxy> {
    let mut command = program("PAGEROOM_TEST_HAPROXY")?;
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let file = folder.path().join("haproxy.cfg");
    let text = configuration(
        "deploy/haproxy.cfg",
        "bind :80",
        &format!("bind 127.0.0.1:{port}"),
        server,
    );
    fs::write(&file, text).expect("a file");
    command.arg("-db").arg("-f").arg(&file);
    Some(start(command, port, folder).await)
}

async fn traefik(server: &TestServer) -> Option<Proxy> {
    let mut command = program("PAGEROOM_TEST_TRAEFIK")?;
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let requests = folder.path().join("pageroom.yaml");
    let text = configuration("deploy/traefik-pageroom.yaml", "http:", "http:", server);
    fs::write(&requests, text).expect("a file");
    let file = folder.path().join("traefik.yaml");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/traefik.yaml"))
        .expect("a file of the project");
    let (listen, filename) = ("address: \":80\"", "filename: /etc/traefik/pageroom.yaml");
    assert!(text.contains(listen) && text.contains(filename), "{text}");
    let own = text
        .replace(listen, &format!("address: \"127.0.0.1:{port}\""))
        .replace(filename, &format!("filename: {}", requests.display()));
    // It asks nobody for newer versions, and tells nobody of this one.
    let own = format!("{own}global:\n  checkNewVersion: false\n  sendAnonymousUsage: false\n");
    fs::write(&file, own).expect("a file");
    command.arg(format!("--configFile={}", file.display()));
    Some(start(command, port, folder).await)
}

async fn locked() -> TestServer {
    TestServer::start(&[
        "--jwt-secret",
        SECRET,
        "--admin-token",
        ADMIN_TOKEN,
        "--trusted-proxies",
        "127.0.0.1",
    ])
    .await
}

/// Asks from another address of this machine and returns the first line of the answer.
async fn ask_from(own: [u8; 4], proxy: SocketAddr, path: &str) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::from((own, 0)))
        .expect("an address of this machine");
    let mut stream = socket.connect(proxy).await.expect("a proxy");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: pages\r\nx-forwarded-for: 203.0.113.1\r\nconnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a proxy that reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What every client needs of a proxy, at its root and under a path.
async fn serves_through(server: &TestServer, proxy: &Proxy) {
    let all = token("ada", &serde_json::json!({ "*": "edit" }));
    let admin = format!("Bearer {ADMIN_TOKEN}");
    let admin = [("authorization", admin.as_str())];
    until("the proxy to find the server", async || {
        get(proxy.address, "/readyz").await.status == 200
    })
    .await;
    for prefix in ["", "/pages"] {
        let page = format!("in{}", prefix.replace('/', "-"));
        // WebSockets, both ways.
        let mut writer =
            Client::join_at(proxy.address, &format!("{prefix}/ws/team/{page}?token={all}"), 1).await;
        let mut reader =
            Client::join_at(proxy.address, &format!("{prefix}/ws/team/{page}?token={all}"), 2).await;
        writer.write_durably("through").await;
        reader.until_text("through").await;
        writer.leave().await;
        reader.leave().await;
        // A page's id stays as it is encoded.
        let content = format!("{prefix}/api/pages/team%2F{page}/content?format=text");
        assert_eq!(get_with(proxy.address, &content, &admin).await.text(), "through");
        // Socket.IO, polling.
        let polling = format!("{prefix}/socket.io/?EIO=4&transport=polling");
        let opened = get(proxy.address, &polling).await;
        let open: Value =
            serde_json::from_str(opened.text().trim_start_matches('0')).expect("an opened session");
        let session = format!("{polling}&sid={}", open["sid"].as_str().expect("an id"));
        let cookie = opened
            .headers
            .get("set-cookie")
            .and_then(|cookie| cookie.to_str().ok());
        let cookie = [(
            "cookie",
            cookie
                .and_then(|cookie| cookie.split(';').next())
                .unwrap_or_default(),
        )];
        let connect = format!("40{{\"token\":\"{all}\"}}");
        let said = send(proxy.address, Method::POST, &session, &cookie, connect.into()).await;
        assert_eq!(said.text(), "ok");
        let told = get_with(proxy.address, &session, &cookie).await;
        assert!(
            told.text().starts_with("40{") && told.text().contains("\"sid\":"),
            "{}",
            told.text()
        );
        // The demo, with its assets.
        let demo = get(proxy.address, &format!("{prefix}/")).await;
        let script = demo
            .text()
            .split("src=\"./")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("a script")
            .to_owned();
        assert_eq!(
            get(proxy.address, &format!("{prefix}/{script}")).await.status,
            200
        );
    }
    let without_slash = get(proxy.address, "/pages").await;
    assert!(without_slash.status.is_redirection() && without_slash.header("location").ends_with("/pages/"));
    assert_eq!(
        get(proxy.address, "/metrics").await.status,
        403,
        "not for everybody"
    );
    // What a client makes up is not believed: the proxy says where it comes from, which is an address that no client outside has.
    assert!(
        ask_from([127, 0, 0, 9], proxy.address, "/api/pages/secret")
            .await
            .contains(" 401")
    );
    until("the refusal to be noted", async || {
        let noted = get_with(server.address, "/api/audit?action=request", &admin)
            .await
            .json();
        noted["entries"]
            .as_array()
            .is_some_and(|entries| entries.iter().any(|entry| entry["address"] == "0.0.0.0"))
    })
    .await;
}

#[tokio::test]
async fn everything_works_behind_nginx() {
    let server = locked().await;
    if let Some(proxy) = nginx(&server).await {
        serves_through(&server, &proxy).await;
    }
}

#[tokio::test]
async fn everything_works_behind_haproxy() {
    let server = locked().await;
    if let Some(proxy) = haproxy(&server).await {
        serves_through(&server, &proxy).await;
    }
}

#[tokio::test]
async fn everything_works_behind_traefik() {
    let server = locked().await;
    if let Some(proxy) = traefik(&server).await {
        serves_through(&server, &proxy).await;
    }
}
