//! How many seats of a page are taken: by one user, and by those who only read.
//!
//! A socket can have many seats, so sockets are not what is counted here. Of a page's seats a share is kept for those who may edit, who
//! would otherwise find it full of readers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use storage::PageId;

use crate::rooms::{Refusal, RefusalCode, Role};

/// Limits on the seats of one page; 0 switches one off.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeatLimits {
    /// Of one user. Guests are not users.
    pub per_user: usize,
    /// Of everybody.
    pub total: usize,
    /// How many of a hundred are kept for those who may edit.
    pub kept_for_editors: usize,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    users: HashMap<Arc<str>, usize>,
}

/// The seats that are taken, by page.
#[derive(Debug)]
pub(super) struct Seats {
    limits: SeatLimits,
    pages: Arc<Mutex<HashMap<PageId, Taken>>>,
}

/// A seat that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct SeatPermit {
    pages: Arc<Mutex<HashMap<PageId, Taken>>>,
    page: PageId,
    user: Option<Arc<str>>,
}

impl Seats {
    pub(super) fn new(limits: SeatLimits) -> Self {
        Self {
            limits,
            pages: Arc::default(),
        }
    }

    /// Counts a seat, or says that there is none for this user. Whether there is one at all is the room's to say.
    pub(super) fn take(
        &self,
        page: &PageId,
        user: Option<&Arc<str>>,
        role: Role,
    ) -> Result<SeatPermit, Refusal> {
        let SeatLimits {
            per_user,
            total,
            kept_for_editors,
        } = self.limits;
        let mut pages = lock(&self.pages);
        let taken = pages.get(page);
        let of_user = taken.and_then(|taken| taken.users.get(user?)).copied();
        if per_user != 0 && of_user.unwrap_or(0) >= per_user {
            return Err(Refusal::new(
                RefusalCode::RateLimited,
                format!("you have {per_user} connections to this page, which is the limit"),
            ));
        }
        let for_readers = total - total * kept_for_editors.min(100) / 100;
        if total != 0 && !role.may_edit() && taken.map_or(0, |taken| taken.total) >= for_readers {
            return Err(Refusal::new(
                RefusalCode::RoomFull,
                format!(
                    "the page has {for_readers} members, and the other places are kept for those who may edit"
                ),
            ));
        }
        let taken = pages.entry(page.clone()).or_default();
        taken.total += 1;
        if let Some(user) = user {
            *taken.users.entry(user.clone()).or_default() += 1;
        }
        Ok(SeatPermit {
            pages: self.pages.clone(),
            page: page.clone(),
            user: user.cloned(),
        })
    }
}

impl Drop for SeatPermit {
    fn drop(&mut self) {
        let mut pages = lock(&self.pages);
        let Some(taken) = pages.get_mut(&self.page) else {
            return;
        };
        taken.total -= 1;
        if let Some(user) = &self.user
            && let Some(count) = taken.users.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                taken.users.remove(user);
            }
        }
        if taken.total == 0 {
            pages.remove(&self.page);
        }
    }
}

fn lock(pages: &Mutex<HashMap<PageId, Taken>>) -> MutexGuard<'_, HashMap<PageId, Taken>> {
    // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(taken: &Result<T, Refusal>) -> Option<RefusalCode> {
        taken.as_ref().err().map(|refusal| refusal.code)
    }

    #[test]
    fn seats_are_counted_for_users_and_kept_for_editors() {
        let seats = Seats::new(SeatLimits {
            per_user: 2,
            total: 10,
            kept_for_editors: 20,
        });
        let page = PageId::new("page").expect("a page id");
        let other = PageId::new("other").expect("a page id");
        let (ada, bob): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
        let first = seats.take(&page, Some(&ada), Role::Edit);
        let second = seats.take(&page, Some(&ada), Role::View);
        assert!(first.is_ok() && second.is_ok());
        let third = seats.take(&page, Some(&ada), Role::Edit);
        assert_eq!(code(&third), Some(RefusalCode::RateLimited));
        assert!(seats.take(&other, Some(&ada), Role::Edit).is_ok(), "another page");
        let guests: Vec<_> = (0..6).map(|_| seats.take(&page, None, Role::View)).collect();
        assert!(guests.iter().all(Result::is_ok), "guests are not users");
        let reader = seats.take(&page, Some(&bob), Role::Comment);
        assert_eq!(code(&reader), Some(RefusalCode::RoomFull));
        let editor = seats.take(&page, Some(&bob), Role::Edit);
        assert_eq!(code(&editor), None);
        drop((first, second, editor));
        assert!(
            seats.take(&page, Some(&ada), Role::View).is_ok(),
            "their places are free"
        );
        drop(guests);
        assert!(
            lock(&seats.pages).is_empty(),
            "nothing is kept of a page that nobody is in"
        );
    }

    #[test]
    fn without_limits_nobody_is_refused() {
        let seats = Seats::new(SeatLimits::default());
        let page = PageId::new("page").expect("a page id");
        let user: Arc<str> = "ada".into();
        let taken: Vec<_> = (0..100)
            .map(|_| seats.take(&page, Some(&user), Role::View))
            .collect();
        assert!(taken.iter().all(Result::is_ok));
    }
}
