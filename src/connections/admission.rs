//! How many connections there may be: in the process, of a user, of an address.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    TokenBucket,
    silent::{Silent, SilentConnections},
};
use crate::{
    auth::network,
    rooms::{Refusal, RefusalCode},
};

/// The address of the peer, put into each request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Limits on connections; 0 switches one off.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In the process.
    pub total: usize,
    /// Of one user. Guests are not users.
    pub per_user: usize,
    /// Of one address. Loopback addresses are not clients' addresses.
    pub per_ip: usize,
}

/// HTTP connections beyond the limit, so that a full server still answers probes and says why it refuses.
const MAX_SPARE: usize = 64;

/// What a user may say beside documents, on all connections together, in a second and at once, in KiB: everybody in the page has to take
/// it, and nothing later makes up for it.
const MAX_ASIDE_KIB_A_SECOND: u32 = 1024;
const MAX_ASIDE_KIB_AT_ONCE: u32 = 2048;
/// Users of whom it is remembered what they said beside documents before any is forgotten.
const FEW_USERS: usize = 512;

/// What is spoken on a connection that stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoken {
    /// y-websocket.
    YWebsocket,
    /// Hocuspocus.
    Hocuspocus,
    /// Socket.IO, in whatever namespaces.
    SocketIo,
    /// y-sweet.
    YSweet,
}

impl Spoken {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::YWebsocket, Self::Hocuspocus, Self::SocketIo, Self::YSweet];
}

/// How many connections there are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Those that stay open.
    pub total: usize,
    /// What is spoken on those.
    pub spoken: BTreeMap<Spoken, usize>,
    /// Those on which nothing but requests has come so far.
    pub http: usize,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    spoken: BTreeMap<Spoken, usize>,
    /// Connections on which nothing but requests has come so far.
    http: usize,
    http_ips: HashMap<IpAddr, usize>,
    users: HashMap<Arc<str>, usize>,
    asides: Asides,
    ips: HashMap<IpAddr, usize>,
}

/// What users say beside documents, on whatever connections, also on those that have ended. A user whose bucket is full again is forgotten
/// when there are twice as many as there were last time that all were looked at.
#[derive(Debug, Default)]
struct Asides {
    users: HashMap<Arc<str>, TokenBucket>,
    looked_at: usize,
}

impl Asides {
    /// When a user may say something.
    fn may_speak_at(&self, user: &str) -> Option<Instant> {
        self.users.get(user).and_then(TokenBucket::free_at)
    }

    fn speak(&mut self, now: Instant, user: &Arc<str>, kib: usize) {
        if self.users.len() >= 2 * self.looked_at.max(FEW_USERS) {
            self.users.retain(|_, bucket| !bucket.is_full(now));
            self.looked_at = self.users.len();
        }
        let bucket = self.users.entry(user.clone());
        bucket.or_insert_with(|| full_bucket(now)).spend(now, kib);
    }
}

fn full_bucket(now: Instant) -> TokenBucket {
    TokenBucket::new(now, MAX_ASIDE_KIB_A_SECOND, MAX_ASIDE_KIB_AT_ONCE)
}

/// Counts connections and refuses those over a limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admissions {
    limits: ConnectionLimits,
    counts: Arc<Mutex<Counts>>,
    silent: SilentConnections,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    limits: ConnectionLimits,
    counts: Arc<Mutex<Counts>>,
    /// Whose connection it is; one with several pages can have several users.
    users: Vec<Arc<str>>,
    ip: Option<IpAddr>,
    spoken: Spoken,
    /// What a guest says beside documents, if it does.
    guest_asides: Option<TokenBucket>,
}

impl Admissions {
    /// Nobody is connected.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            counts: Arc::default(),
            silent: SilentConnections::default(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> ConnectionLimits {
        self.limits
    }

    /// How many connections there are now.
    pub fn connected(&self) -> Connected {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Connected {
            total: counts.total,
            spoken: counts.spoken.clone(),
            http: counts.http,
        }
    }

    /// Counts a connection, or says which limit it would exceed.
    pub fn admit(
        &self,
        spoken: Spoken,
        user: Option<&Arc<str>>,
        ip: IpAddr,
    ) -> Result<ConnectionSlot, Refusal> {
        let ip = Some(network(ip)).filter(|ip| !ip.is_loopback());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |limit: usize, count: usize| limit != 0 && count >= limit;
        if over(self.limits.total, counts.total) {
            return Err(Refusal::unavailable(format!(
                "the server has {} connections, which is the limit",
                counts.total
            )));
        }
        if user.is_some_and(|user| counts.has_too_many(user, &self.limits)) {
            return Err(too_many_of_user());
        }
        if ip.is_some_and(|ip| over(self.limits.per_ip, counts.ips.get(&ip).copied().unwrap_or(0))) {
            return Err(Refusal::new(
                RefusalCode::RateLimited,
                "your address has as many connections as one may have",
            ));
        }
        counts.total += 1;
        *counts.spoken.entry(spoken).or_default() += 1;
        if let Some(user) = user {
            *counts.users.entry(user.clone()).or_default() += 1;
        }
        if let Some(ip) = ip {
            *counts.ips.entry(ip).or_default() += 1;
        }
        Ok(ConnectionSlot {
            limits: self.limits,
            counts: self.counts.clone(),
            users: user.cloned().into_iter().collect(),
            ip,
            spoken,
            guest_asides: None,
        })
    }
}

/// An HTTP connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct HttpPermit {
    counts: Arc<Mutex<Counts>>,
    ip: Option<IpAddr>,
    /// How many connections there may be; 0 is as many as come.
    limit: usize,
}

impl HttpPermit {
    /// Whether there are more connections than there may be.
    pub(super) fn is_spare(&self) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.limit != 0 && counts.total + counts.http > self.limit
    }
}

impl Admissions {
    /// Counts an HTTP connection, whatever will be asked on it; `None` when there are too many, or too many of its address. Of too many,
    /// those that have been silent so far give way, if there are enough for this one to have a place. `ip` is the peer's, unless it is one
    /// behind which many clients are.
    pub fn accept(&self, ip: Option<IpAddr>) -> Option<Silent> {
        let ip = ip.map(network).filter(|ip| !ip.is_loopback());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ip) = ip
            && self.limits.per_ip != 0
            && counts.http_ips.get(&ip).copied().unwrap_or(0) >= self.limits.per_ip
        {
            return None;
        }
        let (total, now) = (self.limits.total, counts.total + counts.http + 1);
        if total != 0 {
            // Those that are ending have given up their places.
            let excess = now.saturating_sub(total + MAX_SPARE + self.silent.ending());
            if excess > 0 && !self.silent.end_oldest(excess) {
                return None;
            }
        }
        if let Some(ip) = ip {
            *counts.http_ips.entry(ip).or_default() += 1;
        }
        counts.http += 1;
        let permit = HttpPermit {
            counts: self.counts.clone(),
            ip,
            limit: total,
        };
        drop(counts);
        Some(self.silent.add(permit))
    }

    /// Ends the connection that has been silent for longest, where the system has no room for more. Says whether there was one.
    pub fn end_silent(&self) -> bool {
        self.silent.end_oldest(1)
    }

    #[cfg(test)]
    pub(super) fn silent(&self) -> &SilentConnections {
        &self.silent
    }
}

impl Drop for HttpPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.http -= 1;
        if let Some(ip) = &self.ip {
            release(&mut counts.http_ips, ip);
        }
    }
}

impl Counts {
    fn has_too_many(&self, user: &Arc<str>, limits: &ConnectionLimits) -> bool {
        limits.per_user != 0 && self.users.get(user).copied().unwrap_or(0) >= limits.per_user
    }
}

fn too_many_of_user() -> Refusal {
    Refusal::new(
        RefusalCode::RateLimited,
        "you have as many connections as a user may have",
    )
}

impl ConnectionSlot {
    /// Counts the connection as one of a user who has been made known after it was admitted, or says that the user has too many.
    pub fn attach_user(&mut self, user: Option<&Arc<str>>) -> Result<(), Refusal> {
        let Some(user) = user.filter(|user| !self.users.contains(user)) else {
            return Ok(());
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.has_too_many(user, &self.limits) {
            return Err(too_many_of_user());
        }
        *counts.users.entry(user.clone()).or_default() += 1;
        self.users.push(user.clone());
        Ok(())
    }

    /// Says so many KiB beside documents, on account of all whose connection it is.
    ///
    /// # Errors
    /// When one of them has said too much lately, on whatever connection: from when on it may be said.
    pub fn speak(&mut self, now: Instant, kib: usize) -> Result<(), Instant> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let users = self.users.iter();
        let of_users = users.filter_map(|user| counts.asides.may_speak_at(user));
        let of_guest = self.guest_asides.as_ref().and_then(TokenBucket::free_at);
        if let Some(at) = of_users.chain(of_guest).max().filter(|at| *at > now) {
            return Err(at);
        }
        for user in &self.users {
            counts.asides.speak(now, user, kib);
        }
        if self.users.is_empty() {
            let bucket = self.guest_asides.get_or_insert_with(|| full_bucket(now));
            bucket.spend(now, kib);
        }
        Ok(())
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(count) = counts.spoken.get_mut(&self.spoken) {
            *count -= 1;
        }
        for user in &self.users {
            release(&mut counts.users, user);
        }
        if let Some(ip) = &self.ip {
            release(&mut counts.ips, ip);
        }
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests begin at some instant")]
    fn what_a_user_says_counts_on_all_connections_also_on_those_that_have_ended() {
        let limits = ConnectionLimits {
            total: 0,
            per_user: 0,
            per_ip: 0,
        };
        let (admissions, start) = (Admissions::new(limits), Instant::now());
        let ip = [192, 0, 2, 1].into();
        let admit = |user: Option<&Arc<str>>| {
            let slot = admissions.admit(Spoken::Hocuspocus, user, ip);
            slot.map_err(|refusal| refusal.code).expect("a place")
        };
        let users: [Arc<str>; 2] = ["ada".into(), "bob".into()];
        let [ada, bob] = &users;
        assert_eq!(admit(Some(ada)).speak(start, 3 * 1024), Ok(()));
        // The first connection is over.
        let may = admit(Some(ada)).speak(start, 1).expect_err("too early");
        // At 1024 a second, each takes a whole number of nanoseconds.
        assert_eq!(may, start + Duration::from_secs(1) / 1024 * 1024);
        assert_eq!(admit(Some(bob)).speak(start, 1), Ok(()), "another user");
        let mut both = admit(Some(bob));
        both.attach_user(Some(ada))
            .map_err(|refusal| refusal.code)
            .expect("a place");
        assert_eq!(both.speak(start, 1), Err(may), "one that both are on");
        assert_eq!(both.speak(may, 1), Ok(()));
        let (mut guest, mut another) = (admit(None), admit(None));
        assert_eq!(guest.speak(start, 3 * 1024), Ok(()));
        assert_eq!(guest.speak(start, 1), Err(may));
        assert_eq!(another.speak(start, 1), Ok(()), "guests are nobody");
        // Whoever has been silent for long is forgotten.
        let later = start + Duration::from_secs(3600);
        for number in 0..10_000 {
            let user: Arc<str> = number.to_string().into();
            let at = later + Duration::from_secs(number);
            assert_eq!(admit(Some(&user)).speak(at, 1), Ok(()));
        }
        let counts = admissions.counts.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            counts.asides.users.len() <= 2 * FEW_USERS,
            "{}",
            counts.asides.users.len()
        );
    }

    #[test]
    fn each_limit_counts_what_it_says_and_places_come_back() {
        let admissions = Admissions::new(ConnectionLimits {
            total: 4,
            per_user: 2,
            per_ip: 3,
        });
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let far: IpAddr = [192, 0, 2, 1].into();
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let first = admissions.admit(Spoken::YWebsocket, Some(&ada), far);
        let second = admissions.admit(Spoken::YWebsocket, Some(&ada), far);
        let code = |result: Result<ConnectionSlot, Refusal>| result.err().map(|refusal| refusal.code);
        assert_eq!(
            code(admissions.admit(Spoken::YWebsocket, Some(&ada), loopback)),
            Some(RefusalCode::RateLimited)
        );
        let third = admissions.admit(Spoken::YWebsocket, Some(&bob), far);
        assert_eq!(
            code(admissions.admit(Spoken::YWebsocket, None, far)),
            Some(RefusalCode::RateLimited)
        );
        let fourth = admissions.admit(Spoken::YWebsocket, None, loopback);
        assert!(first.is_ok() && second.is_ok() && third.is_ok() && fourth.is_ok());
        assert_eq!(
            code(admissions.admit(Spoken::YWebsocket, None, loopback)),
            Some(RefusalCode::Unavailable)
        );
        let connected = admissions.connected();
        assert_eq!((connected.total, connected.http), (4, 0));
        assert_eq!(connected.spoken, [(Spoken::YWebsocket, 4)].into());
        drop(first);
        assert!(admissions.admit(Spoken::YWebsocket, Some(&ada), far).is_ok());
        drop(fourth);
        let mut unknown = admissions
            .admit(Spoken::YWebsocket, None, loopback)
            .expect("a place");
        assert_eq!(
            unknown.attach_user(Some(&ada)).map_err(|refusal| refusal.code),
            Ok(())
        );
        assert_eq!(
            unknown.attach_user(Some(&ada)).map_err(|refusal| refusal.code),
            Ok(())
        );
        drop(third);
        let mut another = admissions
            .admit(Spoken::YWebsocket, None, loopback)
            .expect("a place");
        assert_eq!(
            another.attach_user(Some(&ada)).map_err(|refusal| refusal.code),
            Err(RefusalCode::RateLimited)
        );
    }
}
