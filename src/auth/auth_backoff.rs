//! Slows down whoever fails again and again to prove who it is.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;

// A zero in one of these two would not compile: constants are made by the compiler, which stops where they panic.

/// Failures of one address that are answered at once.
const BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Failures of one address that are answered in a second beyond that.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(2).unwrap();
/// An answer is never held back longer than this.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Answers that are held back at once; beyond that they leave at once, because held ones cost memory.
const MAX_HELD: usize = 1000;
/// Addresses that are remembered before those that have been quiet are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// Counts failures by address. Those who prove who they are never wait, whatever their neighbours do.
pub struct AuthBackoff {
    budgets: DefaultKeyedRateLimiter<IpAddr>,
    held: Semaphore,
}

impl Default for AuthBackoff {
    fn default() -> Self {
        Self {
            budgets: RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(BURST)),
            held: Semaphore::new(MAX_HELD),
        }
    }
}

impl AuthBackoff {
    /// Somebody at this address has failed: returns when it may be told so. Loopback addresses are not clients' addresses.
    pub async fn failed(&self, address: IpAddr) {
        let address = network(address);
        if address.is_loopback() {
            return;
        }
        if self.budgets.len() > MAX_ADDRESSES {
            self.budgets.retain_recent();
        }
        if self.budgets.check_key(&address).is_ok() {
            return;
        }
        if let Ok(_place) = self.held.try_acquire() {
            let _ = tokio::time::timeout(MAX_DELAY, self.budgets.until_key_ready(&address)).await;
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, of which everybody has all the others.
pub fn network(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    match address {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_network_count_as_one() {
        let network_of = |text: &str| network(text.parse().expect("an address")).to_string();
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network_of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network_of("::1"), "::1");
    }

    #[tokio::test]
    async fn failures_are_answered_at_once_only_for_a_while() {
        let failures = AuthBackoff::default();
        let (mallory, ada): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        for _ in 0..BURST.get() {
            failures.failed(mallory).await;
        }
        let mut held = std::pin::pin!(failures.failed(mallory));
        assert!(
            futures_util::poll!(held.as_mut()).is_pending(),
            "the answer waits"
        );
        assert!(futures_util::poll!(std::pin::pin!(failures.failed(ada))).is_ready());
        let loopback = [127, 0, 0, 1].into();
        for _ in 0..100 {
            assert!(futures_util::poll!(std::pin::pin!(failures.failed(loopback))).is_ready());
        }
    }
}
