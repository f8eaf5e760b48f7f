//! WebSocket addresses: who may open the page, and the upgrade.
//!
//! A refused client is let in and then hung up on with a code, because a browser cannot see why a handshake failed.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;
use storage::PageId;

use super::{App, HttpError};
use crate::{
    access::{Caller, Membership},
    auth::{Credential, SUBPROTOCOL_PREFIX},
    connections::{ConnectionSlot, Spoken, handshake, hocuspocus, one_page, websocket},
    protocols::{Dialect, y_websocket::YWebsocket},
    rooms::Refusal,
    telemetry::Correlation,
};

/// `WS /ws/{page…}`: y-websocket.
pub(super) async fn y_websocket(State(app): State<App>, request: Request) -> Response {
    let page = page_in_path(request.uri().path());
    serve::<YWebsocket>(&app, Spoken::YWebsocket, request, page).await
}

/// Serves a page in a dialect that has one page a socket.
pub(super) async fn serve<D: Dialect + Send + 'static>(
    app: &App,
    spoken: Spoken,
    mut request: Request,
    page: Result<PageId, Refusal>,
) -> Response {
    app.tell_of_silent_proxy(&request);
    let caller = app.caller(&request);
    let address = caller.as_ref().map(|caller| caller.address);
    let asked = ask(app, &request, page, address);
    let (response, on_upgrade) = match upgrade(&mut request) {
        Ok(upgrade) => upgrade,
        Err(answer) => return *answer,
    };
    match admit(app, spoken, asked, caller).await {
        Ok((membership, slot)) => {
            let serving = one_page::serve::<D>(on_upgrade, membership, slot, app.around.clone());
            app.tasks.spawn(Correlation::of_connection().scope(serving));
        }
        Err(refusal) => {
            app.around.metrics.refused(refusal.code.as_str(), 1);
            let (app, tasks) = (app.clone(), app.tasks.clone());
            tasks.spawn(async move {
                if let Some(address) = address {
                    app.around.delay_bad_token(address, &refusal).await;
                }
                websocket::refuse(on_upgrade, refusal).await;
            });
        }
    }
    response.map(|()| axum::body::Body::empty())
}

/// `WS /hocuspocus`: Hocuspocus. Its pages, and mostly their tokens too, are in the messages.
pub(super) async fn hocuspocus(State(app): State<App>, mut request: Request) -> Response {
    app.tell_of_silent_proxy(&request);
    let caller = app.caller(&request);
    let admitted = admit_unknown(&app, &request, caller.as_ref());
    let (response, on_upgrade) = match upgrade(&mut request) {
        Ok(upgrade) => upgrade,
        Err(answer) => return *answer,
    };
    match admitted {
        Ok((credential, place)) => {
            let serving = hocuspocus::serve(on_upgrade, credential, place, app.hocuspocus());
            app.tasks.spawn(Correlation::of_connection().scope(serving));
        }
        Err(refusal) => {
            app.around.metrics.refused(refusal.code.as_str(), 1);
            let access = &app.around.access;
            access.note_refused(None, None, caller.as_ref(), &refusal);
            app.tasks.spawn(websocket::refuse(on_upgrade, refusal));
        }
    }
    response.map(|()| axum::body::Body::empty())
}

fn upgrade(request: &mut Request) -> Result<(Response<()>, OnUpgrade), Box<Response>> {
    let protocol = chosen_protocol(request);
    handshake::upgrade(request, protocol.as_deref()).map_err(|error| {
        let mut answer = HttpError::from(Refusal::malformed(error.to_string())).into_response();
        *answer.status_mut() = StatusCode::UPGRADE_REQUIRED;
        answer
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Box::new(answer)
    })
}

/// Admits a connection from an address of which it is not known yet whose it is.
fn admit_unknown(
    app: &App,
    request: &Request,
    caller: Option<&Caller>,
) -> Result<(Option<Credential>, (Caller, ConnectionSlot)), Refusal> {
    if app.is_draining() {
        return Err(Refusal::draining());
    }
    let credential = app.credential(request.headers(), request.uri())?;
    let caller = caller.ok_or_else(no_address)?;
    app.around.access.rates().arrives(caller.address)?;
    let slot = app.admissions.admit(Spoken::Hocuspocus, None, caller.address)?;
    Ok((credential, (caller.clone(), slot)))
}

/// What a request asks for: the page and the token, or why there is none; the page also of a request that is refused for something else.
type Asked = Result<(PageId, Option<Credential>), (Option<PageId>, Refusal)>;

/// Which page a request is for, and with which token.
fn ask(app: &App, request: &Request, page: Result<PageId, Refusal>, address: Option<IpAddr>) -> Asked {
    let credential = || {
        if let Some(address) = address {
            app.around.access.rates().arrives(address)?;
        }
        match app.is_draining() {
            true => Err(Refusal::draining()),
            false => app.credential(request.headers(), request.uri()),
        }
    };
    match (page, credential()) {
        (Ok(page), Ok(credential)) => Ok((page, credential)),
        (page, Err(refusal)) => Err((page.ok(), refusal)),
        (Err(refusal), Ok(_)) => Err((None, refusal)),
    }
}

async fn admit(
    app: &App,
    spoken: Spoken,
    asked: Asked,
    caller: Option<Caller>,
) -> Result<(Membership, ConnectionSlot), Refusal> {
    let access = &app.around.access;
    let known = asked.and_then(|(page, credential)| match &caller {
        Some(caller) => Ok((page, credential, caller)),
        None => Err((Some(page), no_address())),
    });
    let (page, credential, caller) = known.map_err(|(page, refusal)| {
        access.note_refused(None, page.as_ref(), caller.as_ref(), &refusal);
        refusal
    })?;
    let identified = access.identify(credential.as_ref()).await.map(Arc::new);
    let count = |user: Option<&Arc<str>>| app.admissions.admit(spoken, user, caller.address);
    access.admit(identified, &page, caller, count).await
}

fn no_address() -> Refusal {
    Refusal::unavailable("the connection has no address")
}

/// The page named in the path behind `/ws/`, percent-decoded exactly once.
fn page_in_path(path: &str) -> Result<PageId, Refusal> {
    let encoded = path.strip_prefix("/ws/").unwrap_or_default();
    let decoded = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Refusal::malformed("the page id is not UTF-8"))?;
    PageId::new(&decoded).map_err(|error| Refusal::malformed(error.to_string()))
}

/// The subprotocol to choose: the one with the token, else the first that was offered.
fn chosen_protocol(request: &Request) -> Option<String> {
    let offered = request
        .headers()
        .get(header::SEC_WEBSOCKET_PROTOCOL)?
        .to_str()
        .ok()?;
    let mut protocols = offered
        .split(',')
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty());
    let first = protocols.clone().next();
    protocols
        .find(|protocol| protocol.starts_with(SUBPROTOCOL_PREFIX))
        .or(first)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_id_is_decoded_once() {
        let id = |path| page_in_path(path).map(|page| page.as_str().to_owned()).ok();
        assert_eq!(id("/ws/my%20room/%C3%A4").as_deref(), Some("my room/ä"));
        assert_eq!(id("/ws/a%252Fb").as_deref(), Some("a%2Fb"));
        assert_eq!(id("/ws/a%2Fb").as_deref(), Some("a/b"));
        for bad in ["/ws/", "/ws/a%00b", "/ws/a/%2e%2e/b", "/ws/a/../b", "/ws/%ff"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
