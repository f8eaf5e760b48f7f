//! One turn of a room, with what it finds around it.

use pageroom::{
    rooms::{CompactRequest, Count, Input, Refusal, Sight, SlotId, Slots, Surroundings},
    telemetry::Traces,
};
use storage::{Generation, PageCommit, PageId, Seq};

use super::{Around, Command, Door, MAX_BATCH, Process, Request};
use crate::live::Reply;

impl Process {
    /// One turn of a room's task.
    pub(crate) fn run_room(&mut self, around: &mut Around<'_>, page: usize) {
        let Some(door) = self.door(page) else { return };
        let Some(mut live) = door.live.take() else { return };
        let slot = door.slot;
        door.wake_at = None;
        live.begins_turn();
        let count = door.mailbox.len().min(MAX_BATCH);
        let commands: Vec<Command> = door.mailbox.drain(..count).collect();
        if !door.mailbox.is_empty() {
            door.wake_at = Some(around.now);
        }
        if let Some(committed) = live.stored.take() {
            live.append_since = None;
            live.host.handle(around.now, Input::Stored { committed });
        }
        for command in commands {
            if command.is_leased() {
                self.slots.release(&self.pages[page], slot);
            }
            live.handle_command(around, command);
            live.look(around);
        }
        let mut turn = Turn {
            page,
            slot,
            id: &self.pages[page],
            around,
            slots: &mut self.slots,
            append: None,
            answers: Vec::new(),
            inputs: Vec::new(),
        };
        loop {
            live.host.settle(turn.around.now, &mut turn);
            live.look(turn.around);
            if turn.inputs.is_empty() {
                break;
            }
            for input in std::mem::take(&mut turn.inputs) {
                live.host.handle(turn.around.now, input);
            }
        }
        let Turn { append, answers, .. } = turn;
        if let Some(commit) = append {
            assert!(live.append_since.is_none(), "two requests to the store at once");
            live.append_since = Some(around.now);
            self.batching.push(Request { page, slot, commit });
        }
        for (reply, result) in answers {
            match reply {
                Reply::Backend(post) => self.answered.push((post, result.ok())),
                Reply::Member(posted) => live.answer(around, posted, result),
            }
        }
        live.whoever_asked_is_answered(around.now);
        if live.host.has_ended() {
            return;
        }
        if let Some(door) = self.door(page) {
            door.live = Some(live);
        }
    }
}

/// What a room finds around it in one turn.
struct Turn<'a, 'b> {
    page: usize,
    slot: SlotId,
    id: &'a PageId,
    around: &'a mut Around<'b>,
    slots: &'a mut Slots<Door>,
    append: Option<PageCommit>,
    answers: Vec<(Reply, Result<Seq, Refusal>)>,
    inputs: Vec<Input>,
}

impl Surroundings for Turn<'_, '_> {
    type Reply = Reply;

    fn answer(&mut self, reply: Reply, result: Result<Seq, Refusal>) {
        self.answers.push((reply, result));
    }

    fn append(&mut self, commit: PageCommit, _traces: Traces) {
        let before = self.append.replace(commit);
        assert!(before.is_none(), "two requests to the store in one turn");
    }

    fn compact(&mut self, request: CompactRequest) {
        let seq = request.seq;
        let taken = self.around.disk.compact(request);
        self.inputs.push(Input::Compacted { seq, taken });
    }

    fn read_foreign(&mut self, _generation: Option<Generation>, (after, before): (Seq, Seq)) {
        if let Ok(rows) = self.around.disk.foreign(self.id, after, before) {
            self.inputs.push(Input::Remote { rows });
        }
    }

    fn seen(&mut self, _sight: Sight) {
        // Nobody looks at the rooms here.
    }

    fn count(&mut self, count: Count, times: usize) {
        if let Count::Refused(kind) = count {
            self.around
                .trace
                .note(|| format!("page {} refuses {times} {kind}", self.page));
        }
    }

    fn retire(&mut self) -> bool {
        self.slots.retire(self.id, self.slot)
    }
}
