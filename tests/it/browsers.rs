//! What browsers are let in with: origins of pages and shells, and cookies that other applications share.

use crate::support::{http::get_with, server::TestServer, socket_io::Session};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

#[tokio::test]
async fn a_page_of_a_development_server_may_read_what_it_is_answered() {
    let server = TestServer::start(&[]).await;
    for (origin, allowed) in [
        ("http://localhost:5173", true),
        ("http://[::1]:8080", true),
        ("https://evil.net", false),
        ("capacitor://localhost", false),
        ("null", false),
    ] {
        for path in [POLLING, "/api/pages", "/doc/page/as-update"] {
            let answer = get_with(server.address, path, &[("origin", origin)]).await;
            let told = answer.headers.get("access-control-allow-origin").is_some();
            assert_eq!(told, allowed, "{origin} {path}: {}", answer.status);
        }
        // A program that is no browser reads the answer all the same, and hears why in the namespace, over either transport.
        for namespace in ["/", "/yjs|page"] {
            let entered = Session::enter(server.address, "", &[("origin", origin)], namespace, "").await;
            let refused = entered.err();
            let expected = (!allowed).then(|| "forbidden: Origin not allowed".to_owned());
            assert_eq!(refused, expected, "{origin} {namespace}");
        }
    }
}
