//! Where the server listens, and what stands before it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use ipnet::IpNet;

use crate::auth::PublicUrl;

/// Where to listen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where to listen")]
pub(super) struct ListenSettings {
    /// Address to listen on. Anything but a loopback address needs a secret (or an explicit PAGEROOM_AUTH=open).
    #[arg(
        long,
        env = "HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS",
        value_parser = own_address
    )]
    pub(super) host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 3001)]
    pub(super) port: u16,
    /// Reverse proxies whose `X-Forwarded-For` or `Forwarded` is believed: addresses or networks, separated by commas.
    #[arg(
        long,
        env = "PAGEROOM_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        value_delimiter = ','
    )]
    pub(super) trusted_proxies: Vec<String>,
    /// Scheme, host, port and path under which clients reach the server, where it stands behind something that changes them. Pages from
    /// there are the server's own, and no others are, but for those of this machine where the server runs open on it.
    #[arg(long, env = "PAGEROOM_PUBLIC_URL", value_name = "URL")]
    pub(super) public_url: Option<PublicUrl>,
    /// Address and port of `/metrics` alone, with `/healthz` and `/readyz`, such as `127.0.0.1:9090`. Without it they are where the rest is.
    #[arg(long, env = "PAGEROOM_METRICS_ADDRESS", value_name = "ADDRESS:PORT")]
    pub(super) metrics_address: Option<SocketAddr>,
    /// An HTTP connection stays open this long between two requests. Longer than the proxy before the server keeps one, or it finds
    /// connections closed.
    #[arg(
        long,
        env = "PAGEROOM_HTTP_KEEPALIVE_SECONDS",
        default_value_t = 75,
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        value_name = "SECONDS"
    )]
    pub(super) http_keepalive_seconds: u64,
    /// Whether `/` serves the demo editor.
    #[arg(long, env = "PAGEROOM_DEMO", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    pub(super) demo: bool,
    /// Whether `/admin` serves the page for whoever runs the server, which asks for PAGEROOM_ADMIN_TOKEN.
    #[arg(long, env = "PAGEROOM_ADMIN_PAGE", default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    pub(super) admin_page: bool,
    /// On SIGTERM: how long storing what is unwritten and saying goodbye may take.
    #[arg(
        long,
        env = "PAGEROOM_SHUTDOWN_DEADLINE_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub(super) shutdown_deadline_seconds: u64,
}

/// An address of this machine; `localhost` is the only name that is one everywhere.
pub(crate) fn own_address(text: &str) -> Result<IpAddr, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse();
    address
        .map_err(|_| "write an address of this machine, `localhost`, or 0.0.0.0 for all of them".to_owned())
}

impl ListenSettings {
    /// The networks of trusted proxies.
    pub(super) fn proxies(&self, problems: &mut Vec<String>) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in self
            .trusted_proxies
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
        {
            match text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            {
                Ok(network) => networks.push(network),
                Err(_) => problems.push(format!(
                    "PAGEROOM_TRUSTED_PROXIES: `{text}` is neither an address nor a network"
                )),
            }
        }
        networks
    }
}
