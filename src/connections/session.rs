//! The state machine of one connection: when to read, when to ping, when to give up (pure; time is an argument).

use std::time::{Duration, Instant};

use super::TokenBucket;

/// How patient a connection is, and how fast it may write.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// A frame leaves at least this often, because y-websocket clients hang up after 30 s without one.
    pub keep_alive: Duration,
    /// A peer that has not been heard of for this long is gone.
    pub timeout: Duration,
    /// A writer that makes no progress for this long is hung up on; zero for never.
    pub max_stall: Duration,
    /// Sustained rate of messages; zero for no limit.
    pub messages_per_second: u32,
    /// Messages that may come at once.
    pub burst: u32,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the peer for a sign of life, and send it something, because it says nothing or hears nothing.
    Ping,
    /// The peer is gone: hang up without a word.
    Lost,
    /// The peer does not read: hang up with a reason.
    Stalled,
}

/// One connection's clockwork.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    /// Pings leave at this interval, whatever else does, as some protocols have it.
    ping_interval: Option<Duration>,
    heard: Instant,
    sent: Instant,
    /// When the peer was last asked for a sign of life.
    pinged: Instant,
    /// How often it was asked, and how often it has answered.
    asked: u64,
    answered: u64,
    /// Since when something waits to be written without any of it leaving.
    stalled: Option<Instant>,
    /// For messages.
    budget: TokenBucket,
}

impl Session {
    /// A connection that begins now.
    pub fn new(now: Instant, config: SessionConfig) -> Self {
        Self {
            config,
            ping_interval: None,
            heard: now,
            sent: now,
            pinged: now,
            asked: 0,
            answered: 0,
            stalled: None,
            budget: TokenBucket::new(now, config.messages_per_second, config.burst),
        }
    }

    /// The same, pinging at an interval, whether anything else is said or not.
    pub fn pinging_every(now: Instant, interval: Duration, config: SessionConfig) -> Self {
        Self {
            ping_interval: Some(interval),
            ..Self::new(now, config)
        }
    }

    /// The peer was heard of: data, or the answer to a ping.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The peer sent this many messages. They count against its rate.
    pub fn received(&mut self, now: Instant, messages: usize) {
        self.budget.spend(now, messages);
    }

    /// When more may be read; in the past while the peer keeps to its rate. What it sends meanwhile waits in its socket:
    /// nothing is dropped.
    pub fn may_read_at(&self) -> Option<Instant> {
        self.budget.free_at()
    }

    /// A frame left completely, or part of one did.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
        self.stalled = None;
    }

    /// A ping is on its way. Gives its number.
    pub fn pinged(&mut self, now: Instant) -> u64 {
        self.sent = now;
        self.pinged = now;
        self.asked += 1;
        self.asked
    }

    /// The peer has answered a ping. Gives the number of that one, since answers come in the order of the pings; of an answer to nothing
    /// that of the latest.
    pub fn answered(&mut self) -> u64 {
        self.answered = self.asked.min(self.answered + 1);
        self.answered
    }

    /// Something waits to be written and the socket takes nothing.
    pub fn blocked(&mut self, now: Instant) {
        self.stalled.get_or_insert(now);
    }

    /// What is due now, if anything.
    pub fn step(&mut self, now: Instant) -> Option<Step> {
        if now >= self.heard + self.config.timeout {
            return Some(Step::Lost);
        }
        if self.stall_deadline().is_some_and(|deadline| now >= deadline) {
            return Some(Step::Stalled);
        }
        if self.ping_at().is_some_and(|at| now >= at) {
            return Some(Step::Ping);
        }
        None
    }

    fn ping_at(&self) -> Option<Instant> {
        match self.ping_interval {
            Some(interval) => Some(self.pinged + interval),
            // Nothing gets through to a peer that does not read.
            None if self.stalled.is_some() => None,
            // Whoever only listens in a page where much happens has nothing to answer to, so it is asked then, too.
            None => Some(self.sent.min(self.heard.max(self.pinged)) + self.config.keep_alive),
        }
    }

    /// When [`Self::step`] wants to be asked again.
    pub fn next_deadline(&self) -> Instant {
        let lost = self.heard + self.config.timeout;
        [self.ping_at(), self.stall_deadline()]
            .into_iter()
            .flatten()
            .fold(lost, Instant::min)
    }

    fn stall_deadline(&self) -> Option<Instant> {
        self.stalled
            .filter(|_| !self.config.max_stall.is_zero())
            .map(|since| since + self.config.max_stall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SessionConfig = SessionConfig {
        keep_alive: Duration::from_secs(15),
        timeout: Duration::from_secs(40),
        max_stall: Duration::from_secs(60),
        messages_per_second: 100,
        burst: 200,
    };

    #[expect(clippy::disallowed_methods, reason = "tests begin at some instant")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_silent_server_keeps_the_client_and_a_silent_client_is_lost() {
        let start = start();
        let mut session = Session::new(start, CONFIG);
        assert_eq!(session.next_deadline(), start + CONFIG.keep_alive);
        assert_eq!(session.step(start + Duration::from_secs(14)), None);
        assert_eq!(session.step(start + Duration::from_secs(15)), Some(Step::Ping));
        session.pinged(start + Duration::from_secs(15));
        session.heard(start + Duration::from_secs(20));
        for second in [30, 45, 59] {
            session.pinged(start + Duration::from_secs(second));
        }
        assert_eq!(session.step(start + Duration::from_secs(59)), None);
        assert_eq!(session.step(start + Duration::from_secs(60)), Some(Step::Lost));
    }

    #[test]
    fn who_only_listens_is_asked_for_a_sign_of_life_however_much_there_is_to_hear() {
        let start = start();
        let mut session = Session::new(start, CONFIG);
        for second in 0..15 {
            assert_eq!(session.step(start + Duration::from_secs(second)), None);
            session.sent(start + Duration::from_secs(second));
        }
        let asked = start + Duration::from_secs(15);
        assert_eq!(session.next_deadline(), asked);
        assert_eq!(session.step(asked), Some(Step::Ping));
        session.pinged(asked);
        session.heard(asked + Duration::from_millis(1));
        session.sent(asked + Duration::from_secs(14));
        assert_eq!(session.step(asked + Duration::from_secs(14)), None);
    }

    #[test]
    fn a_reader_that_stalls_is_hung_up_on_unless_it_moves() {
        let start = start();
        let mut session = Session::new(
            start,
            SessionConfig {
                timeout: Duration::from_secs(1000),
                ..CONFIG
            },
        );
        session.blocked(start);
        session.blocked(start + Duration::from_secs(30));
        assert_eq!(session.step(start + Duration::from_secs(59)), None);
        assert_eq!(session.step(start + Duration::from_secs(60)), Some(Step::Stalled));
        session.sent(start + Duration::from_secs(60));
        session.heard(start + Duration::from_secs(60));
        assert_eq!(session.step(start + Duration::from_secs(61)), None);
    }

    #[test]
    fn pings_at_an_interval_do_not_depend_on_what_else_is_said() {
        let start = start();
        let interval = Duration::from_secs(25);
        let mut session = Session::pinging_every(start, interval, CONFIG);
        let asked = start + interval;
        session.sent(asked);
        session.heard(asked);
        session.blocked(asked);
        assert_eq!(session.next_deadline(), asked);
        assert_eq!(session.step(asked), Some(Step::Ping));
        session.pinged(asked);
        assert_eq!(session.step(asked), None);
        session.heard(asked + interval);
        assert_eq!(session.next_deadline(), asked + interval);
        session.heard(asked + CONFIG.max_stall);
        assert_eq!(
            session.step(asked + CONFIG.max_stall),
            Some(Step::Stalled),
            "a ping is nothing that the peer has taken"
        );
    }

    #[test]
    fn answers_are_those_to_the_pings_in_their_order() {
        let start = start();
        let mut session = Session::new(start, CONFIG);
        assert_eq!(session.answered(), 0, "nobody has asked");
        assert_eq!([start; 2].map(|now| session.pinged(now)), [1, 2]);
        assert_eq!(session.answered(), 1);
        assert_eq!(session.pinged(start), 3);
        assert_eq!([(); 3].map(|()| session.answered()), [2, 3, 3]);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = start();
        let mut session = Session::new(start, CONFIG);
        let may_read = |session: &Session, at| session.may_read_at().is_none_or(|from| at >= from);
        session.received(start, 200);
        assert!(may_read(&session, start));
        session.received(start, 50);
        assert!(!may_read(&session, start + Duration::from_millis(499)));
        assert!(may_read(&session, start + Duration::from_millis(500)));
    }
}
