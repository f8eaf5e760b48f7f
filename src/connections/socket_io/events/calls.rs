//! Events of applications: they are taken, done one after the other, and answered behind all that they have made their author hear.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use serde_json::{Value as Json, json};
use socketioxide_core::Value;

use super::EventsPlace;
use crate::{
    connections::protocol::Work,
    events::{Answer, Call, MAX_DEPTH, Profile, RELAY, Verbatim, is_coalesced, is_shallow},
    protocols::events,
    rooms::{Refusal, RefusalCode},
};

/// Largest event that carries no content, in bytes.
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Events that may wait for the one before them.
pub(super) const MAX_CALLS: usize = 64;

/// An event of an application that is being done.
pub(super) struct Calling {
    profile: &'static Profile,
    call: Call,
    ack: Option<i64>,
    work: Work<Answer>,
}

impl EventsPlace {
    /// Takes an event of an application, if it is one.
    pub(super) fn call(
        &mut self,
        now: Instant,
        arguments: &mut Value,
        ack: Option<i64>,
    ) -> Result<(), Refusal> {
        let size = match &*arguments {
            Value::Str(text, _) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
        };
        let name = events::name(arguments)?.to_owned();
        let relays = || self.context.events.history.rules().relay(&name).map(|_| &RELAY);
        let Some(profile) = self.profiles.of(&name).or_else(relays) else {
            // Applications have events of their own, which are nothing to us unless an answer is waited for.
            return match ack {
                None => Ok(()),
                Some(_) => Err(Refusal::new(RefusalCode::NotFound, "there is no such event")),
            };
        };
        if !is_coalesced(&name)
            && let Err(wait) = self.rate.try_spend(now)
        {
            let refusal = Refusal::new(RefusalCode::RateLimited, "too many events in too short a time");
            self.refuse(ack, None, &refusal, Some(wait));
            return Ok(());
        }
        let mut call = Call {
            name,
            payload: Json::Null,
        };
        let payload = match size {
            0..=MAX_EVENT_BYTES => events::payload(arguments),
            _ => Err(Refusal::too_large(format!(
                "an event has at most {MAX_EVENT_BYTES} bytes"
            ))),
        };
        match payload {
            Ok(payload) if is_shallow(&payload) => {
                call.payload = payload;
                self.calls.push_back((profile, call, ack));
            }
            Ok(_) => {
                let refusal = Refusal::malformed(format!("values are nested {MAX_DEPTH} deep at most"));
                self.called(profile, &call, ack, Err(refusal));
            }
            Err(refusal) => self.called(profile, &call, ack, Err(refusal)),
        }
        Ok(())
    }

    /// Goes on with the events of applications.
    pub(super) fn poll_calls(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(calling) = &mut self.calling {
                let Poll::Ready(answer) = calling.work.as_mut().poll(context) else {
                    return;
                };
                if let Some(Calling {
                    profile, call, ack, ..
                }) = self.calling.take()
                {
                    self.called(profile, &call, ack, answer);
                }
            }
            let Some((profile, call, ack)) = self.calls.pop_front() else {
                return;
            };
            let (socket, doing) = (self.join.events.clone(), call.clone());
            let work = Box::pin(async move {
                let (enters, payload) = ((profile.enters)(&doing.name), doing.payload.clone());
                let work = (profile.handle)(socket.clone(), doing);
                socket.attend((enters, &payload), work).await
            });
            self.calling = Some(Calling {
                profile,
                call,
                ack,
                work,
            });
        }
    }

    /// Refuses what is being done and what waits for it.
    pub(super) fn give_up_calls(&mut self, refusal: &Refusal) {
        let doing = self
            .calling
            .take()
            .map(|calling| (calling.profile, calling.call, calling.ack));
        let waiting = std::mem::take(&mut self.calls);
        for (profile, call, ack) in doing.into_iter().chain(waiting) {
            self.called(profile, &call, ack, Err(refusal.clone()));
        }
    }

    /// Answers an event of an application, behind all that it has made its author hear.
    fn called(&self, profile: &Profile, call: &Call, ack: Option<i64>, answer: Answer) {
        if let Err(refusal) = &answer {
            self.context.metrics.refused(refusal.code.as_str(), 1);
        }
        match (answer, ack) {
            (Ok(_), None) => {}
            (Err(refusal), None) => (profile.refused)(&self.join.events, call, &refusal),
            (Ok(mut body), Some(ack)) => {
                if let Some(fields) = body.as_object_mut() {
                    fields.insert("ok".to_owned(), true.into());
                }
                (profile.answers)(&self.join.events, call, &Ok(Json::Null), &mut body);
                let (body, field) = (&body, profile.lists);
                let text = events::answer_text(ack, &Verbatim { body, field });
                self.join.events.push(&text);
            }
            (Err(refusal), Some(ack)) => {
                let error = crate::protocols::socket_io::refusal_body(&refusal);
                let mut body = json!({ "ok": false, "error": error });
                (profile.answers)(&self.join.events, call, &Err(refusal), &mut body);
                self.join.events.push(&events::answer_text(ack, &body));
            }
        }
    }
}
