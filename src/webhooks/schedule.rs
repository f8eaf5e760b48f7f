//! What becomes of an event after an attempt to deliver it (pure; time is an argument).

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use storage::{DeliveryOutcome, WebhookDelivery};

use super::egress::{EgressError, Reply};

/// Pause after the first attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, also where a target asks for a longer one.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// An event that has waited for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// It has been tried so often before, even if the clock or the events before it took all that time.
const FEWEST_ATTEMPTS: u64 = 12;

/// What becomes of an event.
pub(super) fn judge(
    now: SystemTime,
    delivery: &WebhookDelivery,
    result: &Result<Reply, EgressError>,
) -> DeliveryOutcome {
    let problem = match result {
        Ok(reply) if reply.status.is_success() => return DeliveryOutcome::Delivered,
        Ok(reply) if reply.status == StatusCode::GONE => {
            return DeliveryOutcome::Dead {
                problem: "it answered with status 410: nobody wants this there any more".to_owned(),
            };
        }
        Ok(reply) if reply.status.is_redirection() => {
            let status = reply.status.as_u16();
            format!("it answered with status {status}: redirections are not followed")
        }
        Ok(reply) => format!("it answered with status {}", reply.status.as_u16()),
        Err(error) => error.to_string(),
    };
    let waited = now.duration_since(delivery.since).unwrap_or_default();
    if waited >= PATIENCE && delivery.attempts >= FEWEST_ATTEMPTS {
        return DeliveryOutcome::Dead { problem };
    }
    let pause = pause(&delivery.id, delivery.attempts);
    let wanted = match result {
        Ok(reply) if matches!(reply.status.as_u16(), 429 | 503) => reply.retry_after,
        Ok(_) | Err(_) => None,
    };
    let pause = wanted.map_or(pause, |wanted| wanted.clamp(FIRST_PAUSE, LONGEST_PAUSE));
    DeliveryOutcome::Again {
        at: now + pause,
        problem,
    }
}

/// How long is waited after the `attempts`th attempt: twice as long as after the one before, and up to a quarter less, so that those which
/// failed together do not come back together.
fn pause(id: &str, attempts: u64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(12);
    let longest = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    if attempts <= 1 {
        return longest;
    }
    // Any mixture of id and attempt will do (FNV-1a).
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = id.bytes().chain(attempts.to_le_bytes()).fold(0x811c_9dc5, mix);
    longest - longest / 4 * (hash >> 16) / 0xffff
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use storage::DeliveryState;

    use super::*;

    fn delivery(attempts: u64) -> WebhookDelivery {
        WebhookDelivery {
            number: 1,
            id: "0198c5d0".to_owned(),
            page: "p".to_owned(),
            target: "t".to_owned(),
            event: "page.changed".to_owned(),
            generation: None,
            seq: None,
            detail: "{}".to_owned(),
            at: UNIX_EPOCH,
            since: UNIX_EPOCH,
            state: DeliveryState::Pending,
            attempts,
            last_error: None,
            ended_at: None,
        }
    }

    fn reply(status: u16, retry_after: Option<u64>) -> Result<Reply, EgressError> {
        Ok(Reply {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    #[test]
    fn pauses_grow_from_a_second_to_an_hour_and_differ_a_little() {
        let mut total = Duration::ZERO;
        for attempts in 1..=40 {
            let pause = pause("0198c5d0", attempts);
            let longest = Duration::from_secs(1 << (attempts - 1).min(20)).min(LONGEST_PAUSE);
            assert!(
                pause <= longest && pause >= longest * 3 / 4,
                "{attempts}: {pause:?}"
            );
            total += pause;
        }
        assert_eq!(pause("any", 1), FIRST_PAUSE);
        assert_ne!(pause("any", 9), pause("other", 9));
        assert_eq!(pause("any", u64::MAX), pause("any", u64::MAX));
        assert!(total > PATIENCE, "{total:?}");
    }

    #[test]
    fn answers_decide_whether_and_when_an_event_is_sent_again() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let after = |result: &Result<Reply, EgressError>| match judge(now, &delivery(3), result) {
            DeliveryOutcome::Delivered => "delivered".to_owned(),
            DeliveryOutcome::Dead { problem } => format!("dead: {problem}"),
            DeliveryOutcome::Again { at, problem } => {
                let pause = at.duration_since(now).expect("later");
                format!("{}: {problem}", pause.as_secs_f64().ceil())
            }
        };
        for (result, expected) in [
            (reply(200, None), "delivered"),
            (reply(204, Some(9)), "delivered"),
            (
                reply(410, None),
                "dead: it answered with status 410: nobody wants this there any more",
            ),
            (reply(500, Some(900)), "4: it answered with status 500"),
            (reply(404, None), "4: it answered with status 404"),
            (
                reply(302, None),
                "4: it answered with status 302: redirections are not followed",
            ),
            (reply(503, None), "4: it answered with status 503"),
            (reply(503, Some(900)), "900: it answered with status 503"),
            (reply(429, Some(0)), "1: it answered with status 429"),
            (reply(429, Some(u64::MAX)), "3600: it answered with status 429"),
            (Err(EgressError::Late), "4: no answer within 5s"),
        ] {
            assert_eq!(after(&result), expected);
        }
    }

    #[test]
    fn an_event_is_given_up_after_a_day_but_not_before_it_was_tried() {
        let is_dead = |attempts, hours: u64| {
            let now = UNIX_EPOCH + Duration::from_secs(hours * 3600);
            matches!(
                judge(now, &delivery(attempts), &reply(500, None)),
                DeliveryOutcome::Dead { .. }
            )
        };
        for (attempts, hours, dead) in [
            (40, 23, false),
            (40, 24, true),
            (FEWEST_ATTEMPTS, 24, true),
            // It waited behind others for a day, or the clock has jumped.
            (1, 24, false),
            (FEWEST_ATTEMPTS - 1, 1_000_000, false),
        ] {
            assert_eq!(is_dead(attempts, hours), dead, "{attempts} {hours}");
        }
        let early = WebhookDelivery {
            since: UNIX_EPOCH + Duration::from_secs(1_000_000),
            ..delivery(40)
        };
        let outcome = judge(UNIX_EPOCH, &early, &reply(500, None));
        assert!(
            matches!(outcome, DeliveryOutcome::Again { .. }),
            "a clock that went back"
        );
    }
}
