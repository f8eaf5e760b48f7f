//! How often somebody may ask: token buckets of users and of addresses.

use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::{
    auth::network,
    rooms::{Refusal, RefusalCode},
};

/// Keys that are remembered before those that have been quiet are forgotten.
const MAX_KEYS: usize = 10_000;
/// Forgetting looks at every key, so it is done once in so many questions.
const FORGETS_EVERY: u32 = 1024;

/// A rate with a burst; a rate of 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Tokens that come back in a second.
    pub per_second: u32,
    /// Tokens at most.
    pub burst: u32,
}

/// Which rates there are.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    /// Of requests, for each user and for each address.
    pub requests: Rate,
    /// Of connections that are asked for, for each address.
    pub arrivals: Rate,
}

/// The buckets.
pub struct RateLimiters {
    of_users: Buckets<Arc<str>>,
    of_addresses: Buckets<IpAddr>,
    arrivals: Buckets<IpAddr>,
}

/// One bucket for each key.
pub struct Buckets<K: Clone + Hash + Eq> {
    limiter: Option<DefaultKeyedRateLimiter<K>>,
    questions: AtomicU32,
}

impl<K: Clone + Hash + Eq> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self::of(NonZeroU32::new(rate.per_second).map(|per_second| {
            let burst = NonZeroU32::new(rate.burst).unwrap_or(per_second);
            Quota::per_second(per_second).allow_burst(burst.max(per_second))
        }))
    }

    /// Buckets of so many tokens, which come back in a minute; 0 for no limit.
    pub fn per_minute(count: u32) -> Self {
        Self::of(NonZeroU32::new(count).map(Quota::per_minute))
    }

    fn of(quota: Option<Quota>) -> Self {
        Self {
            limiter: quota.map(RateLimiter::keyed),
            questions: AtomicU32::new(0),
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&self, key: &K) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        let questions = self.questions.fetch_add(1, Ordering::Relaxed);
        if questions.is_multiple_of(FORGETS_EVERY) && limiter.len() > MAX_KEYS {
            limiter.retain_recent();
        }
        limiter.check_key(key).is_ok()
    }
}

impl RateLimiters {
    /// Full buckets.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            of_users: Buckets::new(limits.requests),
            of_addresses: Buckets::new(limits.requests),
            arrivals: Buckets::new(limits.arrivals),
        }
    }

    /// A user makes a request.
    pub fn user_asks(&self, user: &Arc<str>) -> Result<(), Refusal> {
        match self.of_users.take(user) {
            true => Ok(()),
            false => Err(too_fast("you ask too often")),
        }
    }

    /// A request comes from an address. Loopback addresses are not clients' addresses.
    pub fn address_asks(&self, address: IpAddr) -> Result<(), Refusal> {
        of(&self.of_addresses, address, "your address asks too often")
    }

    /// Somebody at an address wants to connect.
    pub fn arrives(&self, address: IpAddr) -> Result<(), Refusal> {
        of(&self.arrivals, address, "your address connects too often")
    }
}

fn of(buckets: &Buckets<IpAddr>, address: IpAddr, sentence: &'static str) -> Result<(), Refusal> {
    let address = network(address);
    match address.is_loopback() || buckets.take(&address) {
        true => Ok(()),
        false => Err(too_fast(sentence)),
    }
}

fn too_fast(sentence: &'static str) -> Refusal {
    Refusal::new(RefusalCode::RateLimited, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_neighbours_have_their_own() {
        let slow = Rate {
            per_second: 1,
            burst: 3,
        };
        let rates = RateLimiters::new(RateLimits {
            requests: slow,
            arrivals: Rate {
                per_second: 0,
                burst: 0,
            },
        });
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let asks = |last| rates.address_asks(address(last)).is_ok();
        assert_eq!(
            [asks(1), asks(1), asks(1), asks(1), asks(2)],
            [true, true, true, false, true]
        );
        let ada: Arc<str> = "ada".into();
        let user = |user: &Arc<str>| rates.user_asks(user).is_ok();
        assert_eq!(
            [user(&ada), user(&ada), user(&ada), user(&ada)],
            [true, true, true, false]
        );
        assert!(user(&"bob".into()));
        for _ in 0..100 {
            assert!(rates.address_asks([127, 0, 0, 1].into()).is_ok());
            assert!(rates.arrives(address(1)).is_ok(), "0 switches it off");
        }
        // A household has one bucket, however many addresses it takes.
        let v6 = |text: &str| rates.address_asks(text.parse().expect("an address")).is_ok();
        let asked = [
            v6("2001:db8::1"),
            v6("2001:db8::2"),
            v6("2001:db8::3"),
            v6("2001:db8::4"),
        ];
        assert_eq!(asked, [true, true, true, false]);
    }
}
