//! Every kind of token that a user may come with, and what is wrong with each.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use aes::Aes256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    access::grant,
    support::{
        client::Client,
        database::Database,
        http::{get_with, send},
        replica::Replica,
        server::{ADMIN_TOKEN, TestServer, configure},
        socket::Socket,
        socket_io::Session,
        token::{SECRET, claims, seconds_from_now, sign, token},
        until,
    },
};

fn pem(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/keys")
        .join(name);
    fs::read_to_string(path).expect("a key")
}

/// The kinds of key pairs, with the algorithm of each.
const PAIRS: [(&str, Algorithm); 3] = [
    ("rsa", Algorithm::RS256),
    ("p256", Algorithm::ES256),
    ("ed25519", Algorithm::EdDSA),
];

fn private(pair: &str) -> EncodingKey {
    let pem = pem(&format!("{pair}.pem"));
    let read = match pair {
        "rsa" => EncodingKey::from_rsa_pem(pem.as_bytes()),
        "p256" => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_ed_pem(pem.as_bytes()),
    };
    read.expect("a private key")
}

/// A token of Ada, signed with a private key under a name.
fn signed(pair: &str, algorithm: Algorithm, name: Option<&str>) -> String {
    let mut header = Header::new(algorithm);
    header.kid = name.map(str::to_owned);
    let claims = claims("ada", &json!({ "page": "edit" }));
    jsonwebtoken::encode(&header, &claims, &private(pair)).expect("a token")
}

/// `let in`, or the code with which it is refused.
async fn outcome(server: &TestServer, path: &str, headers: &[(&'static str, &str)]) -> String {
    let socket = Socket::open_with(server.address, path, headers).await;
    let mut client = Client::new(socket, Replica::new(1));
    client.ask().await;
    while !client.synced {
        if let Err(closed) = client.turn().await {
            let code = closed.reason.split(':').next().unwrap_or_default();
            return format!("{} {code}", closed.code);
        }
    }
    client.leave().await;
    "let in".to_owned()
}

async fn with_token(server: &TestServer, token: &str) -> String {
    outcome(server, &format!("/ws/page?token={token}"), &[]).await
}

const REFUSED: &str = "4401 unauthenticated";

#[tokio::test]
async fn a_public_key_verifies_tokens_of_its_own_kind_only() {
    for (pair, algorithm) in PAIRS {
        let public = pem(&format!("{pair}.public.pem"));
        let in_one_line = public.replace('\n', "\\n");
        for public in [&public, &in_one_line] {
            let server = TestServer::start(&["--jwt-public-key", public]).await;
            for (other, algorithm_of_other) in PAIRS {
                let expected = if other == pair { "let in" } else { REFUSED };
                let token = signed(other, algorithm_of_other, Some("any"));
                assert_eq!(with_token(&server, &token).await, expected, "{other} at {pair}");
            }
            // The public key, which everybody has, passed off as a secret.
            for secret in [
                public.as_str(),
                public.trim(),
                &pem(&format!("{pair}.public.pem")),
            ] {
                for strength in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                    let forged = sign(&claims("ada", &json!({ "page": "edit" })), secret, strength);
                    assert_eq!(
                        with_token(&server, &forged).await,
                        REFUSED,
                        "{algorithm:?} {strength:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_long_secret_verifies_stronger_hashes_too() {
    let long = "a secret of the tests that is long enough for every hash, 64 bytes.";
    let server = TestServer::start(&["--jwt-secret", long]).await;
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = sign(&claims("ada", &json!({ "page": "edit" })), long, algorithm);
        assert_eq!(with_token(&server, &token).await, "let in", "{algorithm:?}");
    }
}

fn key_set(keys: &[(&str, Algorithm, &str)]) -> String {
    let keys = keys.iter().map(|(pair, algorithm, name)| {
        let mut key = Jwk::from_encoding_key(&private(pair), *algorithm).expect("a key");
        key.common.key_id = Some((*name).to_owned());
        key
    });
    serde_json::to_string(&JwkSet { keys: keys.collect() }).expect("a set")
}

#[tokio::test]
async fn keys_of_a_file_are_chosen_by_name_and_exchanged_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    fs::write(
        &file,
        key_set(&[
            ("rsa", Algorithm::RS256, "old"),
            ("p256", Algorithm::ES256, "curve"),
        ]),
    )
    .expect("a file");
    let path = file.to_str().expect("a path");
    let server = TestServer::start(&["--jwt-jwks-file", path]).await;
    let old = signed("rsa", Algorithm::RS256, Some("old"));
    for (token, expected) in [
        (old.clone(), "let in"),
        (signed("rsa", Algorithm::RS256, None), "let in"),
        (signed("p256", Algorithm::ES256, Some("curve")), "let in"),
        (signed("p256", Algorithm::ES256, Some("old")), REFUSED),
        (signed("rsa", Algorithm::RS256, Some("curve")), REFUSED),
        (signed("ed25519", Algorithm::EdDSA, Some("new")), REFUSED),
    ] {
        assert_eq!(with_token(&server, &token).await, expected);
    }
    // What cannot be used changes nothing.
    fs::write(&file, "{").expect("a file");
    assert_eq!(with_token(&server, &old).await, "let in");
    fs::write(&file, key_set(&[("ed25519", Algorithm::EdDSA, "new")])).expect("a file");
    let new = signed("ed25519", Algorithm::EdDSA, Some("new"));
    until("the new key to count", async || {
        Box::pin(with_token(&server, &new)).await == "let in"
    })
    .await;
    assert_eq!(with_token(&server, &old).await, REFUSED, "the old key is gone");
}

#[tokio::test]
async fn keys_at_an_address_are_exchanged_while_the_server_runs_and_outlive_the_address() {
    let answer = Arc::new(Mutex::new(None));
    let (address, serving) = issuer(answer.clone()).await;
    let url = format!("http://{address}/.well-known/jwks.json");
    let server = TestServer::start(&["--jwt-jwks-url", &url, "--jwt-secret", SECRET]).await;
    let old = signed("rsa", Algorithm::RS256, Some("old"));
    let new = signed("ed25519", Algorithm::EdDSA, Some("new"));
    assert_eq!(
        with_token(&server, &old).await,
        "1013 unavailable",
        "to be tried again"
    );
    let secret = sign(
        &claims("ada", &json!({ "page": "edit" })),
        SECRET,
        Algorithm::HS256,
    );
    assert_eq!(
        with_token(&server, &secret).await,
        "let in",
        "it needs no address"
    );
    let says = |keys: String| *answer.lock().expect("an answer") = Some(keys);

    says(key_set(&[("rsa", Algorithm::RS256, "old")]));
    until("the keys to be fetched", async || {
        Box::pin(with_token(&server, &old)).await == "let in"
    })
    .await;
    assert_eq!(with_token(&server, &new).await, REFUSED);
    says(key_set(&[("ed25519", Algorithm::EdDSA, "new")]));
    until("the new key to count", async || {
        Box::pin(with_token(&server, &new)).await == "let in"
    })
    .await;
    assert_eq!(with_token(&server, &old).await, REFUSED, "the old key is gone");
    serving.abort();
    assert_eq!(with_token(&server, &new).await, "let in");
    assert!(
        server
            .metric("pageroom_token_keys_age_seconds")
            .await
            .expect("an age")
            < 60.0
    );
}

/// A server that answers every request with keys, or not at all.
async fn issuer(answer: Arc<Mutex<Option<String>>>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let answer = answer.lock().expect("an answer").clone();
            if let Some(keys) = answer {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    keys.len()
                );
                let _ = socket.write_all(format!("{head}{keys}").as_bytes()).await;
            }
        }
    });
    (address, serving)
}

#[test]
fn keys_that_are_weak_or_no_public_keys_are_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    let path = file.to_str().expect("a path").to_owned();
    let secret = json!({ "keys": [{ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) }] });
    for (content, reason) in [
        (secret.to_string(), "is for public keys"),
        ("{\"keys\":[]}".to_owned(), "no key for"),
        ("nonsense".to_owned(), "no JSON Web Key Set"),
    ] {
        fs::write(&file, content).expect("a file");
        let problem = configure(&["--jwt-jwks-file", &path])
            .expect_err("a refusal")
            .to_string();
        assert!(problem.contains(reason), "{problem}");
        assert!(!problem.contains(&URL_SAFE_NO_PAD.encode(SECRET)), "{problem}");
    }
    for url in ["ftp://issuer/keys", "issuer/keys", "nonsense"] {
        let problem = configure(&["--jwt-jwks-url", url])
            .expect_err("a refusal")
            .to_string();
        assert!(
            problem.contains("JWT_JWKS_URL is no address of the web"),
            "{problem}"
        );
    }
    for (key, reason) in [
        (pem("weak.public.pem"), "2048"),
        (pem("p384.public.pem"), "another curve"),
        ("nonsense".to_owned(), "no public key"),
    ] {
        let problem = configure(&["--jwt-public-key", &key])
            .expect_err("a refusal")
            .to_string();
        assert!(problem.contains(reason), "{problem}");
    }
}

#[tokio::test]
async fn claims_that_can_be_read_in_two_ways_are_refused() {
    let server = TestServer::start(&["--jwt-secret", SECRET]).await;
    let exp = seconds_from_now(60);
    let raw = |claims: String| {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.expect("a signature"))
    };
    for (claims, expected) in [
        (
            format!(r#"{{"sub":"ada","pages":{{"page":"edit"}},"exp":{exp}}}"#),
            "let in",
        ),
        (
            format!(r#"{{"sub":"ada","pages":{{"page":"edit"}},"exp":{exp}.5}}"#),
            "let in",
        ),
        (
            format!(r#"{{"sub":"ada","sub":"root","pages":{{"page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"ada","pages":{{"page":"view","page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"ada","pages":{{"page":"edit"}},"exp":1,"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":["ada"],"pages":{{"page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"*","pages":{{"page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"a\u0000b","pages":{{"page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"ada","tokenVersion":"3","pages":{{"page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"ada","tokenVersion":-1,"pages":{{"page":"edit"}},"exp":{exp}}}"#),
            REFUSED,
        ),
        (
            format!(r#"{{"sub":"Zoë 😀 \u202e","pages":{{"page":"edit"}},"exp":{exp}}}"#),
            "let in",
        ),
    ] {
        assert_eq!(
            with_token(&server, &raw(claims.clone())).await,
            expected,
            "{claims}"
        );
    }
    // A header that brings its own key, or says where to get one, is believed in nothing.
    let good = token("ada", &json!({ "page": "edit" }));
    let mut parts = good.split('.');
    let (_, body) = (parts.next(), parts.next().expect("claims"));
    for header in [
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}"#,
        r#"{"alg":"HS256","jku":"http://127.0.0.1:9/keys"}"#,
        r#"{"alg":"HS256","kid":"../../../dev/null"}"#,
    ] {
        let message = format!("{}.{body}", URL_SAFE_NO_PAD.encode(header));
        let key = EncodingKey::from_secret(b"");
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
        assert_eq!(
            with_token(&server, &format!("{message}.{signature}")).await,
            REFUSED,
            "{header}"
        );
    }
}

#[tokio::test]
async fn tokens_without_an_end_are_taken_only_where_that_is_configured() {
    let endless = sign(
        &json!({ "sub": "ada", "pages": { "page": "edit" } }),
        SECRET,
        Algorithm::HS256,
    );
    let over = json!({ "sub": "ada", "pages": { "page": "edit" }, "exp": seconds_from_now(-60) });
    let over = sign(&over, SECRET, Algorithm::HS256);
    for (flags, expected) in [
        (&[][..], REFUSED),
        (&["--tokens-without-expiry", "true"], "let in"),
    ] {
        let server = TestServer::start(&[&["--jwt-secret", SECRET], flags].concat()).await;
        assert_eq!(with_token(&server, &endless).await, expected);
        assert_eq!(with_token(&server, &over).await, "4401 token_expired");
    }
}

const APP: &str = "https://app.example.com";

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).expect("vectors")).expect("JSON")
}

#[tokio::test]
async fn session_cookies_of_next_auth_open_pages_from_allowed_origins() {
    let vectors = vectors("nextauth.json");
    let secret = vectors["secret"].as_str().expect("a secret");
    for flag in ["--nextauth-secret", "--auth-secret"] {
        let flags = [flag, secret, "--cors-origin", APP, "--admin-token", ADMIN_TOKEN];
        let server = TestServer::start(&flags).await;
        let user = vectors["v4"]["decoded_valid"]["sub"].as_str().expect("a user");
        // The session says who it is, the store what that user may do.
        let path = format!("/api/pages/page/permissions/{user}");
        let admin = format!("Bearer {ADMIN_TOKEN}");
        let granted = send(
            server.address,
            hyper::Method::PUT,
            &path,
            &[("authorization", &admin), ("content-type", "application/json")],
            json!({ "role": "edit" }).to_string().into(),
        )
        .await;
        assert_eq!(granted.status, 200, "{}", granted.text());
        let v4 = vectors["v4"]["valid"].as_str().expect("a token");
        let secure = "__Secure-authjs.session-token";
        let v5 = vectors["v5"][secure]["valid"].as_str().expect("a token");
        let chunks = vectors["v4"]["large_chunks"].as_object().expect("chunks");
        let chunks: Vec<_> = chunks
            .iter()
            .rev()
            .map(|(name, value)| format!("{name}={}", value.as_str().expect("a chunk")))
            .collect();
        let expired = vectors["v4"]["expired"].as_str().expect("a token");
        for (cookie, expected) in [
            (format!("next-auth.session-token={v4}"), "let in"),
            (format!("__Secure-next-auth.session-token={v4}"), "let in"),
            (format!("{secure}={v5}"), "let in"),
            (chunks.join("; "), "let in"),
            (chunks[1..].join("; "), REFUSED),
            (format!("authjs.session-token={v5}"), REFUSED),
            (format!("authjs.session-token={v4}"), REFUSED),
            (format!("next-auth.session-token={expired}"), "4401 token_expired"),
            (format!("next-auth.session-token.zero={v4}"), REFUSED),
        ] {
            let from = [("cookie", cookie.as_str()), ("origin", APP)];
            assert_eq!(outcome(&server, "/ws/page", &from).await, expected, "{cookie}");
            let evil = [("cookie", cookie.as_str()), ("origin", "https://evil.net")];
            assert_eq!(outcome(&server, "/ws/page", &evil).await, "4403 forbidden");
        }
        let from = [
            ("cookie", &*format!("next-auth.session-token={v4}")),
            ("origin", APP),
        ];
        assert_eq!(get_with(server.address, "/api/pages", &from).await.status, 200);
    }
}

/// A session as Auth.js v5 seals it for a cookie with this name, good for an hour.
fn sealed(secret: &str, name: &str, user: &str, exp: u64) -> String {
    let content = json!({ "sub": user, "exp": exp }).to_string();
    let info = format!("Auth.js Generated Encryption Key ({name})");
    let mut key = [0; 64];
    Hkdf::<Sha256>::new(Some(name.as_bytes()), secret.as_bytes())
        .expand(info.as_bytes(), &mut key)
        .expect("a key");
    let (mac_key, content_key) = key.split_at(32);
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256CBC-HS512"}"#);
    let iv = [7; 16];
    let length = content.len();
    let mut sealed = content.into_bytes();
    // Room for what pads the last block.
    sealed.resize(length + 16, 0);
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(content_key, &iv).expect("a key");
    let sealed = cipher.encrypt_padded::<Pkcs7>(&mut sealed, length);
    let sealed = sealed.expect("room").to_vec();
    let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(mac_key).expect("a key");
    mac.update(head.as_bytes());
    mac.update(&iv);
    mac.update(&sealed);
    mac.update(&(head.len() as u64 * 8).to_be_bytes());
    let tag = mac.finalize().into_bytes();
    let [iv, sealed, tag] = [&iv[..], &sealed, &tag[..32]].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{head}..{iv}.{sealed}.{tag}")
}

/// Who is at a page when somebody with this cookie has joined it.
async fn users_at(server: &TestServer, page: &str, cookie: &str) -> Vec<String> {
    let from = [("cookie", cookie), ("origin", APP)];
    let socket = Socket::open_with(server.address, &format!("/ws/{page}"), &from).await;
    let client = Client::join_as(socket, Replica::new(1)).await;
    let presence = get_with(server.address, &format!("/api/pages/{page}/presence"), &from).await;
    assert_eq!(presence.status, 200, "{}", presence.text());
    let users = presence.json()["users"].as_array().expect("a list").clone();
    client.leave().await;
    let ids = users.iter().filter_map(|user| user["userId"].as_str());
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_session_cookie_may_have_a_name_of_its_own_and_nothing_beside_it_hides_it() {
    let vectors = vectors("nextauth.json");
    let secret = vectors["secret"].as_str().expect("a secret");
    let server = TestServer::start(&[
        "--nextauth-secret",
        secret,
        "--jwt-secret",
        SECRET,
        "--session-cookie",
        "my.session, __Host-other",
        "--cors-origin",
        APP,
        "--admin-token",
        ADMIN_TOKEN,
    ])
    .await;
    let user = vectors["v4"]["decoded_valid"]["sub"].as_str().expect("a user");
    for user in [user, "eve"] {
        grant(&server, "page", user, "edit").await;
    }
    let v4 = vectors["v4"]["valid"].as_str().expect("a token");
    let expired = vectors["v4"]["expired"].as_str().expect("a token");
    let (later, before) = (seconds_from_now(3600), seconds_from_now(-3600));
    let v5 = |name: &str| sealed(secret, name, "eve", later);
    let over = sealed(secret, "my.session", "eve", before);
    let own = v5("my.session");
    let (first, second) = own.split_at(own.len() / 2);
    let foreign = sealed(
        "another application's secret, long enough",
        "authjs.session-token",
        "eve",
        later,
    );
    let jwt = token("eve", &json!({ "page": "edit" }));
    for (cookie, expected) in [
        // Under a name of its own: of either kind, in parts, and sealed for that name.
        (format!("my.session={own}"), "let in"),
        (format!("__Host-other={}", v5("__Host-other")), "let in"),
        (format!("my.session={v4}"), "let in"),
        (format!("my.session.1={second}; my.session.0={first}"), "let in"),
        (format!("my.session.0={first}"), REFUSED),
        (format!("my.session={}", v5("authjs.session-token")), REFUSED),
        (format!("authjs.session-token={own}"), REFUSED),
        (format!("other.session={}", v5("other.session")), REFUSED),
        // The usual names are still looked for.
        (format!("next-auth.session-token={v4}"), "let in"),
        (
            format!("authjs.session-token={}", v5("authjs.session-token")),
            "let in",
        ),
        // A token of another application, a session of another one, and what is left over hide nothing, wherever they stand.
        (format!("accessToken=foreign; my.session={own}"), "let in"),
        (
            format!("accessToken=a.b.c; next-auth.session-token={v4}"),
            "let in",
        ),
        (
            format!("next-auth.session-token={v4}; accessToken=foreign"),
            "let in",
        ),
        (
            format!("authjs.session-token={foreign}; my.session={own}"),
            "let in",
        ),
        (
            format!(
                "my.session={foreign}; authjs.session-token={}",
                v5("authjs.session-token")
            ),
            "let in",
        ),
        (
            format!("my.session={over}; next-auth.session-token={v4}"),
            "let in",
        ),
        (
            format!("next-auth.session-token={expired}; my.session={own}"),
            "let in",
        ),
        (
            format!("next-auth.session-token={expired}; __Secure-next-auth.session-token={v4}"),
            "let in",
        ),
        (format!("my.session={over}; my.session={own}"), "let in"),
        (format!("my.session={own}; my.session={over}"), "let in"),
        (
            format!("next-auth.session-token={expired}; accessToken={jwt}"),
            "let in",
        ),
        // Where nothing opens, the reason is that of the one that once did.
        (
            format!("my.session={over}; accessToken=foreign"),
            "4401 token_expired",
        ),
        (format!("accessToken=foreign; my.session={foreign}"), REFUSED),
    ] {
        let from = [("cookie", cookie.as_str()), ("origin", APP)];
        assert_eq!(outcome(&server, "/ws/page", &from).await, expected, "{cookie}");
    }
    for (name, is_good) in [
        ("my.session", true),
        ("my session", false),
        ("a;b", false),
        ("é", false),
    ] {
        let configured = configure(&["--nextauth-secret", secret, "--session-cookie", name]);
        match configured {
            Ok(_) => assert!(is_good, "{name}"),
            Err(error) => {
                let said = error.to_string();
                assert!(
                    !is_good && said.contains("PAGEROOM_SESSION_COOKIE"),
                    "{name}: {said}"
                );
            }
        }
    }
}

#[tokio::test]
async fn where_everybody_may_come_a_session_says_who_it_is_whatever_stands_beside_it() {
    let vectors = vectors("nextauth.json");
    let secret = vectors["secret"].as_str().expect("a secret");
    let flags = [
        "--auth",
        "open",
        "--nextauth-secret",
        secret,
        "--cors-origin",
        APP,
        "--admin-token",
        ADMIN_TOKEN,
    ];
    let server = TestServer::start(&flags).await;
    let eve = sealed(secret, "authjs.session-token", "eve", seconds_from_now(3600));
    let foreign = sealed(
        "another application's secret, long enough",
        "__Secure-authjs.session-token",
        "mallory",
        seconds_from_now(3600),
    );
    for (page, cookie, is_eve) in [
        ("a", format!("authjs.session-token={eve}"), true),
        (
            "b",
            format!("accessToken=foreign; authjs.session-token={eve}"),
            true,
        ),
        (
            "c",
            format!("__Secure-authjs.session-token={foreign}; authjs.session-token={eve}"),
            true,
        ),
        ("d", "accessToken=foreign".to_owned(), false),
        ("e", format!("__Secure-authjs.session-token={foreign}"), false),
    ] {
        // Whoever is known may do what is granted, and whoever is not may edit.
        grant(&server, page, "eve", "edit").await;
        let users = users_at(&server, page, &cookie).await;
        assert_eq!(users.contains(&"eve".to_owned()), is_eve, "{cookie}: {users:?}");
        assert!(!users.contains(&"mallory".to_owned()), "{cookie}: {users:?}");
    }
}

/// Tables as the application has them, as far as they are read here.
const PAGESPACE: &str = r#"
    CREATE TABLE users (id text PRIMARY KEY, name text, image text, "tokenVersion" int NOT NULL, "suspendedAt" timestamp);
    CREATE TABLE user_profiles ("userId" text, "displayName" text, "avatarUrl" text);
    CREATE TYPE session_type AS ENUM ('socket', 'user');
    CREATE TABLE sessions (id text PRIMARY KEY, token_hash text, user_id text, type session_type, token_version int,
        expires_at timestamp, last_used_at timestamp, revoked_at timestamp, revoked_reason text,
        created_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
    INSERT INTO users VALUES ('ada', 'Ada L', NULL, 3, NULL), ('bob', 'Bob', NULL, 1, now()), ('tz4a98xxat96iws9zmbrgj3a', 'T', NULL, 3, NULL);
    INSERT INTO user_profiles VALUES ('ada', 'Ada', 'https://example.test/a.png');
    INSERT INTO sessions (id, token_hash, user_id, type, token_version, expires_at) VALUES
        ('1', '49fb1a15fde45045a08d07d7805eead27ffc7a5c46a7ca16cc4a237a03915dfb', 'ada', 'socket', 3,
            (now() AT TIME ZONE 'UTC') + interval '5 minutes'),
        ('2', '0e73fd0abcec3abd3142feaced81264a33f6a136420a068c575ff1624797c6e2', 'bob', 'user', 1,
            (now() AT TIME ZONE 'UTC') + interval '5 minutes');
"#;

#[tokio::test]
async fn opaque_tokens_are_looked_up_in_the_tables_of_their_application() {
    let Some(database) = Database::postgres() else {
        return;
    };
    database.query(PAGESPACE);
    let vectors = vectors("pagespace.json");
    let token = |n: usize| {
        vectors["token_hash"][n]["token"]
            .as_str()
            .expect("a token")
            .to_owned()
    };
    let secret = vectors["legacy_jwt"]["JWT_SECRET"].as_str().expect("a secret");
    let url = database.url();
    let server = TestServer::start(&[
        "--pagespace-tokens",
        "true",
        "--encryption-key",
        vectors["field_crypto"]["ENCRYPTION_KEY"].as_str().expect("a key"),
        "--access-database-url",
        &url,
        "--jwt-secret",
        secret,
        "--jwt-issuer",
        "pagespace",
        "--jwt-audience",
        "pagespace-users",
        "--access",
        "sql",
        "--access-query",
        "SELECT 'edit' FROM users WHERE id = $1 AND $2 = 'page';",
        "--access-cache-seconds",
        "0",
    ])
    .await;
    assert_eq!(with_token(&server, &token(0)).await, "let in");
    // Who it is: by the profile, else by the name, which may be encrypted.
    let named = async || {
        let auth = json!({ "token": token(0) });
        let (mut session, _) = Session::connect(server.address, &auth).await;
        session.send("join_page", None, &json!("page"), &[]).await;
        let viewers = session.until_told("presence:page_viewers").await.body;
        let name = &viewers["viewers"][0]["name"];
        name.as_str().map(str::to_owned)
    };
    let crypto = &vectors["field_crypto"];
    assert_eq!(named().await.as_deref(), Some("Ada"));
    database.query("DELETE FROM user_profiles");
    assert_eq!(named().await.as_deref(), Some("Ada L"));
    for kept in ["three_part", "four_part_legacy"] {
        let kept = crypto[kept].as_str().expect("a text");
        database.query(&format!("UPDATE users SET name = '{kept}' WHERE id = 'ada'"));
        assert_eq!(named().await.as_deref(), crypto["plaintext"].as_str());
    }
    let foreign = crypto["three_part"]
        .as_str()
        .expect("a text")
        .replace("0b8a", "0b8b");
    for unreadable in [format!("'{foreign}'"), "NULL".to_owned()] {
        database.query(&format!("UPDATE users SET name = {unreadable} WHERE id = 'ada'"));
        assert_eq!(named().await.as_deref(), Some("Unknown"));
    }
    let refused = Session::enter(server.address, "", &[], "/", "{\"token\":\"ps_sock_no\"}").await;
    let words = refused.err().expect("a refusal");
    assert!(words.contains("Authentication error"), "{words}");
    until("the use to be noted", async || {
        database.query("SELECT last_used_at IS NOT NULL FROM sessions WHERE id = '1'") == "t"
    })
    .await;
    assert_eq!(with_token(&server, &token(1)).await, "4401 token_revoked");
    let reason =
        database.query("SELECT revoked_reason FROM sessions WHERE id = '2' AND revoked_at IS NOT NULL");
    assert_eq!(reason, "user_suspended");
    assert_eq!(with_token(&server, &token(1)).await, REFUSED);
    let unknown = token(0).replace('A', "B");
    assert_eq!(with_token(&server, &unknown).await, REFUSED);
    for (name, expected) in [
        ("valid", "let in"),
        ("expired", "4401 token_expired"),
        ("wrong_issuer", REFUSED),
        ("wrong_audience", REFUSED),
        ("token_version_string", REFUSED),
        ("alg_none", REFUSED),
    ] {
        let token = vectors["legacy_jwt"][name].as_str().expect("a token");
        assert_eq!(with_token(&server, token).await, expected, "{name}");
    }
    database.query(r#"UPDATE users SET "tokenVersion" = 4"#);
    assert_eq!(with_token(&server, &token(0)).await, "4401 token_revoked");
    let reason = database.query("SELECT revoked_reason FROM sessions WHERE id = '1'");
    assert_eq!(reason, "token_version_mismatch");
    let jwt = vectors["legacy_jwt"]["valid"].as_str().expect("a token");
    assert_eq!(with_token(&server, jwt).await, "4401 token_revoked");
    database.query("DROP TABLE sessions");
    assert_eq!(with_token(&server, &token(0)).await, "1013 unavailable");
}

#[tokio::test]
async fn whoever_fails_again_and_again_is_answered_slowly_and_its_neighbour_with_a_token_is_not() {
    let server = TestServer::start(&["--jwt-secret", SECRET, "--trusted-proxies", "127.0.0.1"]).await;
    let mallory = [
        ("x-forwarded-for", "192.0.2.1"),
        ("authorization", "Bearer nonsense"),
    ];
    #[expect(
        clippy::disallowed_methods,
        reason = "how long answers take is what is tested"
    )]
    let started = std::time::Instant::now();
    for _ in 0..22 {
        assert_eq!(get_with(server.address, "/api/pages", &mallory).await.status, 401);
    }
    assert!(
        started.elapsed() >= std::time::Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    let good = format!("Bearer {}", token("ada", &json!({})));
    #[expect(
        clippy::disallowed_methods,
        reason = "how long answers take is what is tested"
    )]
    let started = std::time::Instant::now();
    let ada = [("x-forwarded-for", "192.0.2.1"), ("authorization", good.as_str())];
    assert_eq!(get_with(server.address, "/api/pages", &ada).await.status, 200);
    assert!(
        started.elapsed() < std::time::Duration::from_millis(400),
        "{:?}",
        started.elapsed()
    );
}
