//! How many connections there may be: in the process, of a user, of an address.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::TokenBucket;
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
    users: HashMap<Arc<str>, OfUser>,
    ips: HashMap<IpAddr, usize>,
}

/// What is counted of a user, or of a connection of a guest.
#[derive(Debug, Default)]
struct OfUser {
    connections: usize,
    /// What was said beside documents; nothing yet.
    asides: Option<TokenBucket>,
}

impl OfUser {
    /// When something may be said beside documents.
    fn may_speak_at(&self) -> Option<Instant> {
        self.asides.as_ref().and_then(TokenBucket::free_at)
    }

    fn speak(&mut self, now: Instant, kib: usize) {
        let full = || TokenBucket::new(now, MAX_ASIDE_KIB_A_SECOND, MAX_ASIDE_KIB_AT_ONCE);
        self.asides.get_or_insert_with(full).spend(now, kib);
    }
}

/// Counts connections and refuses those over a limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admissions {
    limits: ConnectionLimits,
    counts: Arc<Mutex<Counts>>,
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
    /// What is counted of a guest.
    guest: OfUser,
}

impl Admissions {
    /// Nobody is connected.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            counts: Arc::default(),
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
            counts.users.entry(user.clone()).or_default().connections += 1;
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
            guest: OfUser::default(),
        })
    }
}

/// An HTTP connection that is counted until this is dropped.
#[derive(Debug)]
pub struct HttpPermit {
    counts: Arc<Mutex<Counts>>,
    ip: Option<IpAddr>,
}

impl Admissions {
    /// Counts an HTTP connection, whatever will be asked on it; `None` when there are too many. `ip` is the peer's, unless it is one
    /// behind which many clients are.
    pub fn accept(&self, ip: Option<IpAddr>) -> Option<HttpPermit> {
        let ip = ip.map(network).filter(|ip| !ip.is_loopback());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |limit: usize, count: usize| limit != 0 && count >= limit;
        if over(
            self.limits.total,
            (counts.total + counts.http).saturating_sub(MAX_SPARE),
        ) {
            return None;
        }
        if let Some(ip) = ip {
            let of_ip = counts.http_ips.entry(ip).or_default();
            if over(self.limits.per_ip, *of_ip) {
                return None;
            }
            *of_ip += 1;
        }
        counts.http += 1;
        Some(HttpPermit {
            counts: self.counts.clone(),
            ip,
        })
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
        limits.per_user != 0 && self.users.get(user).map_or(0, |user| user.connections) >= limits.per_user
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
        counts.users.entry(user.clone()).or_default().connections += 1;
        self.users.push(user.clone());
        Ok(())
    }

    /// Says so many KiB beside documents, on account of all whose connection it is.
    ///
    /// # Errors
    /// When one of them has said too much lately, on whatever connection: from when on it may be said.
    pub fn speak(&mut self, now: Instant, kib: usize) -> Result<(), Instant> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let users = self.users.iter().filter_map(|user| counts.users.get(user));
        let may_at = users.chain([&self.guest]).filter_map(OfUser::may_speak_at).max();
        if let Some(at) = may_at.filter(|at| *at > now) {
            return Err(at);
        }
        if self.users.is_empty() {
            self.guest.speak(now, kib);
        }
        for user in &self.users {
            if let Some(user) = counts.users.get_mut(user) {
                user.speak(now, kib);
            }
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
            if let Some(of_user) = counts.users.get_mut(user) {
                of_user.connections -= 1;
                if of_user.connections == 0 {
                    counts.users.remove(user);
                }
            }
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
    use super::*;

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
