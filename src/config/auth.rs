//! Who may connect: secrets, keys, and the web origins that may use them.

use std::{net::IpAddr, path::PathBuf};

use axum::http::Uri;
use clap::Args;

use crate::auth::{
    Authenticator, ClaimRules, MIN_SECRET_BYTES, Origin, OriginPolicy, Secret, SessionKeys, TokenKeys,
};

/// Who may connect.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who may connect")]
pub(crate) struct AuthSettings {
    /// Secret of tokens signed with HS256, at least 32 bytes (48 for HS384, 64 for HS512).
    #[arg(long, env = "JWT_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub(crate) jwt_secret: Option<Secret>,
    /// Public key of tokens signed with RS256, ES256 or EdDSA, in PEM.
    #[arg(
        long,
        env = "JWT_PUBLIC_KEY",
        value_name = "PEM",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    jwt_public_key: Option<String>,
    /// File of public keys (a JSON Web Key Set) for RS256, ES256 and EdDSA. It is read again when it changes.
    #[arg(long, env = "JWT_JWKS_FILE", value_name = "FILE")]
    jwt_jwks_file: Option<PathBuf>,
    /// Address of public keys (a JSON Web Key Set) for RS256, ES256 and EdDSA. They are fetched when a token first needs them, when it names
    /// one that is not known, and every five minutes; those that were fetched last count while the address is away.
    #[arg(long, env = "JWT_JWKS_URL", value_name = "URL")]
    jwt_jwks_url: Option<String>,
    /// Takes tokens that never expire. They end only when their user is signed out.
    #[arg(long, env = "PAGEROOM_TOKENS_WITHOUT_EXPIRY", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    tokens_without_expiry: bool,
    /// Tokens must name this issuer.
    #[arg(long, env = "JWT_ISSUER", value_name = "NAME")]
    jwt_issuer: Option<String>,
    /// Tokens must name this audience.
    #[arg(long, env = "JWT_AUDIENCE", value_name = "NAME")]
    jwt_audience: Option<String>,
    /// Secret of NextAuth, at least 32 bytes: opens the session cookies of NextAuth v4 and Auth.js v5.
    #[arg(long, env = "NEXTAUTH_SECRET", value_name = "SECRET", hide_env_values = true)]
    nextauth_secret: Option<Secret>,
    /// The same under the name that Auth.js gives it. With both, either opens a cookie, so that secrets can be exchanged.
    #[arg(long, env = "AUTH_SECRET", value_name = "SECRET", hide_env_values = true)]
    auth_secret: Option<Secret>,
    /// Names of the application's session cookies where they are not those of NextAuth and Auth.js, separated by commas.
    #[arg(
        long,
        env = "PAGEROOM_SESSION_COOKIE",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    session_cookie: Vec<String>,
    /// Bearer token of the backend for REST and administration, at least 32 bytes.
    #[arg(
        long,
        env = "PAGEROOM_ADMIN_TOKEN",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub(super) admin_token: Option<Secret>,
    /// `open` lets everybody edit as a guest. Without any secret this is so on loopback addresses.
    #[arg(long, env = "PAGEROOM_AUTH", value_name = "MODE")]
    auth: Option<AuthMode>,
    /// Browser origins that may connect, separated by commas: scheme, host and port, no wildcards. Shells of applications have
    /// origins too (`capacitor://localhost`, `chrome-extension://ID`, `file://`), and pages without one send `null`.
    #[arg(long, env = "CORS_ORIGIN", value_name = "ORIGINS", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// More of them.
    #[arg(
        long,
        env = "ADDITIONAL_ALLOWED_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    additional_allowed_origins: Vec<String>,
    /// Address of the application whose pages connect; its origin is allowed.
    #[arg(long, env = "WEB_APP_URL", value_name = "URLS", value_delimiter = ',')]
    web_app_url: Vec<String>,
    /// The same under another name.
    #[arg(long, env = "FRONTEND_URL", value_name = "URLS", value_delimiter = ',')]
    frontend_url: Vec<String>,
}

/// How people are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AuthMode {
    /// Everybody may edit as a guest.
    Open,
    /// A token is needed.
    Token,
}

impl AuthSettings {
    /// Checks the settings for a server that listens on `host`, and whose pages are of `public` where that is said.
    pub(crate) fn check(
        &self,
        host: IpAddr,
        public: Option<Origin>,
        problems: &mut Vec<String>,
    ) -> Authenticator {
        self.check_secrets(problems);
        let keys = self.keys(problems);
        let sessions = SessionKeys::new(
            self.nextauth_secret
                .iter()
                .chain(&self.auth_secret)
                .cloned()
                .collect(),
        )
        .named(&self.session_names(problems));
        let has_tokens = !keys.is_empty() || !sessions.is_empty();
        if keys.is_empty() && (self.jwt_issuer.is_some() || self.jwt_audience.is_some()) {
            problems.push(
                "JWT_ISSUER and JWT_AUDIENCE mean nothing without JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_FILE or JWT_JWKS_URL".to_owned(),
            );
        }
        let open = match self.auth {
            Some(AuthMode::Open) => true,
            Some(AuthMode::Token) => {
                if !has_tokens {
                    problems.push("PAGEROOM_AUTH=token needs JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_FILE, NEXTAUTH_SECRET or AUTH_SECRET".to_owned());
                }
                false
            }
            None if has_tokens => false,
            None => {
                if !host.is_loopback() {
                    problems.push(format!(
                        "on {host} everybody could read and change every page: set JWT_SECRET, or say so with PAGEROOM_AUTH=open"
                    ));
                }
                true
            }
        };
        let allowed = self.origins(problems);
        let loopback = open && allowed.is_empty() && host.is_loopback();
        Authenticator {
            keys,
            sessions,
            admin_token: self.admin_token.clone(),
            open,
            origins: OriginPolicy {
                allowed,
                public,
                loopback,
                own_names: open && host.is_loopback(),
            },
        }
    }

    fn check_secrets(&self, problems: &mut Vec<String>) {
        for (name, secret) in [
            ("JWT_SECRET", &self.jwt_secret),
            ("NEXTAUTH_SECRET", &self.nextauth_secret),
            ("AUTH_SECRET", &self.auth_secret),
            ("PAGEROOM_ADMIN_TOKEN", &self.admin_token),
        ] {
            check_length(name, secret.as_ref(), problems);
            if secret
                .as_ref()
                .is_some_and(|secret| secret.expose().contains("-----BEGIN "))
            {
                problems.push(format!(
                    "{name} is a key in PEM, and everybody may know a public one: it belongs in JWT_PUBLIC_KEY"
                ));
            }
        }
        if let (Some(jwt), Some(admin)) = (&self.jwt_secret, &self.admin_token)
            && jwt == admin
        {
            problems.push(
                "JWT_SECRET and PAGEROOM_ADMIN_TOKEN are the same: whoever knows one must not know the other"
                    .to_owned(),
            );
        }
    }

    fn session_names(&self, problems: &mut Vec<String>) -> Vec<String> {
        let names = self.session_cookie.iter().map(|name| name.trim());
        let names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        if let Some(bad) = names.iter().find(|name| !name.bytes().all(is_token)) {
            problems.push(format!(
                "PAGEROOM_SESSION_COOKIE: `{bad}` cannot be the name of a cookie"
            ));
        }
        names
    }

    /// Keys for verifying, and for signing if there is a secret.
    pub(crate) fn keys(&self, problems: &mut Vec<String>) -> TokenKeys {
        let mut keys = TokenKeys::new(ClaimRules {
            issuer: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
            without_expiry: self.tokens_without_expiry,
        });
        if let Some(secret) = &self.jwt_secret {
            keys.add_secret(secret);
        }
        if let Some(pem) = &self.jwt_public_key
            && let Err(error) = keys.add_public_key(pem)
        {
            problems.push(format!("JWT_PUBLIC_KEY {error}"));
        }
        if let Some(file) = &self.jwt_jwks_file
            && let Err(error) = keys.add_file(file)
        {
            problems.push(format!("JWT_JWKS_FILE {} {error}", file.display()));
        }
        if let Some(address) = &self.jwt_jwks_url {
            match web_address("JWT_JWKS_URL", address) {
                Ok(address) => keys.add_address(address),
                Err(problem) => problems.push(problem),
            }
        }
        keys
    }

    /// Where the application's own pages come from.
    pub(super) fn own_pages(&self) -> Vec<Origin> {
        let texts = self.web_app_url.iter();
        // Those that are none have been refused.
        let origins = texts.filter_map(|text| origin_of("WEB_APP_URL", text).parse().ok());
        origins.collect()
    }

    fn origins(&self, problems: &mut Vec<String>) -> Vec<Origin> {
        let given = [
            ("CORS_ORIGIN", &self.cors_origin),
            ("ADDITIONAL_ALLOWED_ORIGINS", &self.additional_allowed_origins),
            ("WEB_APP_URL", &self.web_app_url),
            ("FRONTEND_URL", &self.frontend_url),
        ];
        let mut origins = Vec::new();
        for (name, texts) in given {
            for text in texts.iter().filter(|text| !text.trim().is_empty()) {
                match origin_of(name, text).parse::<Origin>() {
                    Ok(origin) => origins.push(origin),
                    Err(error) => problems.push(format!("{name}: {error}")),
                }
            }
        }
        origins
    }
}

/// An address that can be asked.
pub(super) fn web_address(name: &str, text: &str) -> Result<Uri, String> {
    let uri = text.trim().parse::<Uri>().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        .ok_or_else(|| format!("{name} is no address of the web: write http://… or https://…"))
}

/// Secrets that can be guessed are none.
pub(super) fn check_length(name: &str, secret: Option<&Secret>, problems: &mut Vec<String>) {
    let length = secret.map(|secret| secret.expose().len());
    if let Some(length) = length.filter(|length| *length < MIN_SECRET_BYTES) {
        problems.push(format!("{name} has {length} bytes and needs at least {MIN_SECRET_BYTES}: make one with `openssl rand -hex 32`"));
    }
}

/// The application's address may have a path, of which only the origin counts; an origin may not.
fn origin_of<'a>(name: &str, text: &'a str) -> &'a str {
    let text = text.trim();
    if !matches!(name, "WEB_APP_URL" | "FRONTEND_URL") {
        return text;
    }
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    let end = text
        .get(start..)
        .and_then(|rest| rest.find(['/', '?', '#']))
        .map_or(text.len(), |path| start + path);
    text.get(..end).unwrap_or(text)
}
