//! PatioAI's vocabulary: how often its users may say something, and who answers for its AI.

use clap::Args;
use hyper::Uri;

use super::auth::web_address;
use crate::{auth::Secret, events::PatioConfig};

/// PatioAI.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "PatioAI")]
pub(super) struct PatioSettings {
    /// Where users' wishes for answers of an AI are posted (`invoke-ai`, `stop-ai`), signed with the secret of the bridge in header
    /// `X-Broadcast-Signature`. Without it they are refused.
    #[arg(long, env = "PAGEROOM_AI_WEBHOOK_URL", value_name = "URL")]
    ai_webhook_url: Option<String>,
    /// Messages, and wishes for answers of an AI, of one user in a minute; 0 for no limit.
    #[arg(
        long,
        env = "PAGEROOM_MAX_MESSAGES_PER_MINUTE",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    max_messages_per_minute: u32,
    /// Codes of rooms that one user may try in vain within a minute, and users of one address together ten times as many; 0 for no limit.
    #[arg(
        long,
        env = "PAGEROOM_MAX_WRONG_CODES_PER_MINUTE",
        default_value_t = 10,
        value_name = "COUNT"
    )]
    max_wrong_codes_per_minute: u32,
}

impl PatioSettings {
    pub(super) fn check(&self, bridge: Option<&Secret>, problems: &mut Vec<String>) -> PatioConfig {
        PatioConfig {
            ai: self.ai(bridge, problems),
            messages_per_minute: self.max_messages_per_minute,
            wrong_codes_per_minute: self.max_wrong_codes_per_minute,
        }
    }

    fn ai(&self, bridge: Option<&Secret>, problems: &mut Vec<String>) -> Option<(Uri, Secret)> {
        let address = self.ai_webhook_url.as_deref()?;
        let uri = web_address("PAGEROOM_AI_WEBHOOK_URL", address);
        let uri = uri.map_err(|problem| problems.push(problem)).ok();
        if bridge.is_none() {
            problems.push(
                "PAGEROOM_AI_WEBHOOK_URL needs REALTIME_BROADCAST_SECRET, which signs what is posted there"
                    .to_owned(),
            );
        }
        uri.zip(bridge.cloned())
    }
}
