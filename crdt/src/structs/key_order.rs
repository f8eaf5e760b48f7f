//! The order of the values that were put under one key of a map, as far as it takes to know which of them is the last.
//!
//! Each value names the one behind which it was put. Values put behind the same one at once stand in the order of their client ids, each
//! followed by those that were put behind it in turn; of one client the later stands first. So the last value of all is found
//! by going from the first on to the last of those behind it, and so on: that way is kept here. A new value is the last one when it was
//! put behind one on the way and stands behind what follows there; the rest of the way is then left for good.

use std::collections::BTreeMap;

use crate::state_vector::ClientId;
use crate::update::Id;

/// Values of one client, each put behind the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    client: ClientId,
    start: u32,
    end: u32,
}

/// The way to the last value.
#[derive(Debug, Default)]
pub(crate) enum KeyOrder {
    /// Nothing was put there.
    #[default]
    Empty,
    /// Values of one client, in turn.
    One { client: ClientId, start: u32, end: u32 },
    /// Several clients wrote.
    Many(Box<Way>),
    /// Something was put before another value, as no client does: only an integration could tell.
    Unknown,
}

#[derive(Debug, Default)]
pub(crate) struct Way {
    steps: Vec<Step>,
    /// By the first value of each step, how many steps are before it. One client's clocks grow on the way, since each value is there
    /// before what is put behind it.
    index: BTreeMap<Id, u32>,
}

/// A value that was put under a key, or several deleted ones that were put behind each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values {
    pub(crate) client: ClientId,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) origin: Option<Id>,
}

impl Values {
    fn last(&self) -> Id {
        let (client, clock) = (self.client, self.end.wrapping_sub(1));
        Id { client, clock }
    }
}

impl KeyOrder {
    /// Notes values; gives the one that is not the last any more because of them: the one that was, or the new one itself. The one that
    /// they were put behind is neither, and not the last in any case. Takes time logarithmic in the length of the way, counting
    /// what is left of it once.
    pub(crate) fn put(&mut self, new: &Values) -> Option<Id> {
        let &Values {
            client,
            start,
            end,
            origin,
        } = new;
        match self {
            Self::Unknown => None,
            Self::Empty => {
                *self = Self::One { client, start, end };
                None
            }
            Self::One {
                client: author,
                end: until,
                ..
            } if *author == client
                && *until == start
                && origin.is_some_and(|id| id.client == client && id.clock + 1 == start) =>
            {
                *until = end;
                None
            }
            Self::One { client, start, end } => {
                let first = Step {
                    client: *client,
                    start: *start,
                    end: *end,
                };
                let mut way = Box::<Way>::default();
                way.push(first);
                let replaced = way.put(new);
                *self = Self::Many(way);
                replaced
            }
            Self::Many(way) => way.put(new),
        }
    }

    /// From here on nothing is known.
    pub(crate) fn give_up(&mut self) {
        *self = Self::Unknown;
    }
}

impl Way {
    fn push(&mut self, step: Step) {
        if let Some(last) = self.steps.last_mut()
            && last.client == step.client
            && last.end == step.start
        {
            last.end = step.end;
            return;
        }
        let Step {
            client, start: clock, ..
        } = step;
        self.index.insert(Id { client, clock }, self.steps.len() as u32);
        self.steps.push(step);
    }

    fn last(&self) -> Option<Id> {
        let last = self.steps.last()?;
        let (client, clock) = (last.client, last.end.wrapping_sub(1));
        Some(Id { client, clock })
    }

    fn put(&mut self, new: &Values) -> Option<Id> {
        let replaced = self.last();
        if replaced.is_none() || new.origin != replaced {
            let Some((at, kept)) = self.behind(new.origin) else {
                return Some(new.last());
            };
            let follower = match at.and_then(|at| self.steps.get(at)) {
                Some(step) if kept < step.end => Some(Id {
                    client: step.client,
                    clock: kept,
                }),
                _ => self.steps.get(at.map_or(0, |at| at + 1)).map(|step| Id {
                    client: step.client,
                    clock: step.start,
                }),
            };
            // Of one client the later one stands first.
            if follower.is_some_and(|follower| follower.client >= new.client) {
                return Some(new.last());
            }
            self.leave(at, kept);
        }
        let &Values {
            client, start, end, ..
        } = new;
        self.push(Step { client, start, end });
        replaced.filter(|replaced| new.origin != Some(*replaced))
    }

    /// The step that a value on the way is in, `None` for what is before all, and where that is cut behind the value; `None` when the value is
    /// not on the way.
    fn behind(&self, origin: Option<Id>) -> Option<(Option<usize>, u32)> {
        let Some(origin) = origin else {
            return Some((None, 0));
        };
        let (found, &at) = self.index.range(..=origin).next_back()?;
        let step = self.steps.get(at as usize)?;
        (found.client == origin.client && origin.clock < step.end)
            .then_some((Some(at as usize), origin.clock + 1))
    }

    /// Leaves the way behind a step that is cut at `kept`.
    fn leave(&mut self, at: Option<usize>, kept: u32) {
        let stay = at.map_or(0, |at| at + 1);
        crate::work::steps(self.steps.len() - stay);
        for Step {
            client, start: clock, ..
        } in self.steps.drain(stay..)
        {
            self.index.remove(&Id { client, clock });
        }
        if let Some(step) = at.and_then(|at| self.steps.get_mut(at)) {
            step.end = kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All values in the order in which Yjs has them: put each in its place as `Item.integrate` does.
    fn integrated(values: &[Values]) -> Vec<Values> {
        let mut list: Vec<Values> = Vec::new();
        for new in values {
            let at = |id: Id| list.iter().position(|value| value.last() == id);
            let mut left = new.origin.and_then(at);
            let (mut before_origin, mut conflicting) = (Vec::new(), Vec::new());
            for other in list.iter().skip(left.map_or(0, |left| left + 1)) {
                before_origin.push(other.last());
                conflicting.push(other.last());
                if other.origin == new.origin {
                    if other.client < new.client {
                        left = at(other.last());
                        conflicting.clear();
                    } else {
                        break;
                    }
                } else if other.origin.is_some_and(|origin| before_origin.contains(&origin)) {
                    if !other.origin.is_some_and(|origin| conflicting.contains(&origin)) {
                        left = at(other.last());
                        conflicting.clear();
                    }
                } else {
                    break;
                }
            }
            list.insert(left.map_or(0, |left| left + 1), *new);
        }
        list
    }

    proptest! {
        #[test]
        fn the_last_value_is_the_one_that_yjs_has(choices in proptest::collection::vec((0u64..5, 0usize..200, any::<u32>()), 1..60)) {
            // Each value was put behind one that was there, or behind nothing.
            let mut values: Vec<Values> = Vec::new();
            for (client, behind, _) in &choices {
                let client = ClientId(*client);
                let start = values.iter().filter(|value| value.client == client).count() as u32;
                // Mostly behind a late one, as clients do that talk to each other.
                let origin = values.len().checked_sub(1 + behind % 7 * (behind % 3)).and_then(|at| values.get(at)).map(Values::last);
                values.push(Values { client, start, end: start + 1, origin });
            }
            let list = integrated(&values);
            // In any order in which each comes after the one before of its client and the one that it was put behind.
            let mut left: Vec<_> = values.iter().copied().zip(choices.iter().map(|(.., rank)| *rank)).collect();
            let mut order = KeyOrder::default();
            let mut alive: Vec<Id> = Vec::new();
            let mut there: Vec<Id> = Vec::new();
            while !left.is_empty() {
                let is_ready = |value: &Values| {
                    value.origin.is_none_or(|origin| there.contains(&origin))
                        && there.iter().filter(|id| id.client == value.client).count() == value.start as usize
                };
                let next = (0..left.len()).filter(|&at| is_ready(&left[at].0)).max_by_key(|&at| left[at].1).expect("one is ready");
                let (value, _) = left.swap_remove(next);
                there.push(value.last());
                alive.push(value.last());
                let replaced = order.put(&value);
                alive.retain(|id| Some(*id) != replaced && Some(*id) != value.origin);
            }
            prop_assert_eq!(alive, [list.last().expect("a value").last()]);
        }
    }

    #[test]
    fn a_way_that_is_left_is_not_kept() {
        let mut order = KeyOrder::default();
        let value = |client, clock, origin: Option<(u64, u32)>| Values {
            client: ClientId(client),
            start: clock,
            end: clock + 1,
            origin: origin.map(|(client, clock)| Id {
                client: ClientId(client),
                clock,
            }),
        };
        for clock in 0..500 {
            order.put(&value(1, clock, clock.checked_sub(1).map(|clock| (2, clock))));
            order.put(&value(2, clock, Some((1, clock))));
        }
        let KeyOrder::Many(way) = &order else {
            panic!("two clients")
        };
        assert_eq!((way.steps.len(), way.index.len()), (1000, 1000));
        // Behind the first of all, and of a larger client: the whole rest is behind it no more.
        let replaced = order.put(&value(3, 0, Some((1, 0))));
        assert_eq!(
            replaced,
            Some(Id {
                client: ClientId(2),
                clock: 499
            })
        );
        let KeyOrder::Many(way) = &order else {
            panic!("two clients")
        };
        assert_eq!((way.steps.len(), way.index.len()), (2, 2));
    }
}
