//! Webhooks: whom to tell what happens to pages.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use storage::WebhookEvent;

use super::auth::check_length;
use crate::{
    auth::Secret,
    webhooks::{Target, WebhookConfig},
};

/// Targets there may be.
const MAX_TARGETS: usize = 16;

/// Webhooks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Webhooks")]
pub(super) struct WebhookSettings {
    /// Addresses to which events of pages are posted, separated by commas: `http://…` or `https://…`, up to 16. Redirections are not followed.
    #[arg(
        long,
        env = "PAGEROOM_WEBHOOK_URLS",
        value_name = "URLS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    webhook_urls: Vec<Secret>,
    /// What these messages are signed with, at least 32 bytes; REALTIME_BROADCAST_SECRET when nothing is said.
    #[arg(
        long,
        env = "PAGEROOM_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    webhook_secret: Option<Secret>,
    /// What is told: `page.created`, `page.changed`, `page.deleted`, `page.restored`, `page.first_joined`, `page.last_left` and
    /// `version.created`, separated by commas; all of them when nothing is said.
    #[arg(
        long,
        env = "PAGEROOM_WEBHOOK_EVENTS",
        value_name = "EVENTS",
        value_delimiter = ','
    )]
    webhook_events: Vec<String>,
    /// That a page has changed is told at most once in this time, and this long after its first change.
    #[arg(
        long,
        env = "PAGEROOM_WEBHOOK_DEBOUNCE_SECONDS",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    webhook_debounce_seconds: u64,
    /// Lets webhooks be posted to private addresses, too: of this host, of private networks, and of links.
    #[arg(long, env = "PAGEROOM_WEBHOOK_ALLOW_PRIVATE", default_value_t = false, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(), value_name = "BOOL")]
    webhook_allow_private: bool,
    /// How long events are kept that no target took for a day; at most 100,000 of them are.
    #[arg(
        long,
        env = "PAGEROOM_WEBHOOK_DEAD_DAYS",
        default_value_t = 30,
        value_name = "DAYS"
    )]
    webhook_dead_days: u32,
}

impl WebhookSettings {
    pub(super) fn check(&self, bridge: Option<&Secret>, problems: &mut Vec<String>) -> Option<WebhookConfig> {
        check_length("PAGEROOM_WEBHOOK_SECRET", self.webhook_secret.as_ref(), problems);
        let events = self.events(problems);
        let targets = self.targets(problems);
        if self.webhook_debounce_seconds > 24 * 3600 {
            problems.push("PAGEROOM_WEBHOOK_DEBOUNCE_SECONDS must be at most 86400".to_owned());
        }
        if targets.is_empty() {
            return None;
        }
        let secret = self.webhook_secret.as_ref().or(bridge).cloned();
        if secret.is_none() {
            problems.push(
                "PAGEROOM_WEBHOOK_URLS needs PAGEROOM_WEBHOOK_SECRET or REALTIME_BROADCAST_SECRET, with which messages are signed"
                    .to_owned(),
            );
        }
        Some(WebhookConfig {
            targets,
            secret: secret?,
            events,
            debounce: Duration::from_secs(self.webhook_debounce_seconds),
            allows_private: self.webhook_allow_private,
            dead_retention: Duration::from_secs(u64::from(self.webhook_dead_days) * 24 * 3600),
        })
    }

    fn targets(&self, problems: &mut Vec<String>) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        let given = self.webhook_urls.iter().enumerate();
        for (n, address) in given.filter(|(_, address)| !address.expose().trim().is_empty()) {
            match Target::new(address.expose(), self.webhook_allow_private) {
                Ok(target) if targets.iter().any(|known| known.name() == target.name()) => {
                    problems.push(format!("PAGEROOM_WEBHOOK_URLS: address {} is there twice", n + 1));
                }
                Ok(target) => targets.push(target),
                // An address may hold a secret.
                Err(error) => problems.push(format!("PAGEROOM_WEBHOOK_URLS: address {} {error}", n + 1)),
            }
        }
        if targets.len() > MAX_TARGETS {
            problems.push(format!(
                "PAGEROOM_WEBHOOK_URLS has more than {MAX_TARGETS} addresses"
            ));
        }
        targets
    }

    fn events(&self, problems: &mut Vec<String>) -> BTreeSet<WebhookEvent> {
        let given = self.webhook_events.iter().map(|name| name.trim());
        let given: Vec<_> = given.filter(|name| !name.is_empty()).collect();
        if given.is_empty() {
            return BTreeSet::from(WebhookEvent::ALL);
        }
        let known = |name: &str| {
            let event = WebhookEvent::parse(name);
            if event.is_none() {
                let all = WebhookEvent::ALL.map(WebhookEvent::as_str).join(", ");
                problems.push(format!("PAGEROOM_WEBHOOK_EVENTS: `{name}` is no event: {all}"));
            }
            event
        };
        given.into_iter().filter_map(known).collect()
    }
}
