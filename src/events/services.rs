//! What is configured of rooms without a document, and the parts that are made of it.

use std::sync::Arc;

use super::{
    Alarm, BroadcastIds, ContentConfig, Desks, EventRooms, EventRules, EventServices, History, Jobs, Patio,
    PatioConfig, Profiles, ProgressPace, RecoveryLimits, RoomLimits, Timed,
};
use crate::{access::Access, reader::Readers, rooms::Registry, telemetry::Metrics};

/// What is configured of rooms without a document.
#[derive(Clone, Debug)]
pub struct EventConfig {
    /// Limits of the rooms.
    pub rooms: RoomLimits,
    /// What is remembered for connections that come back.
    pub recovery: RecoveryLimits,
    /// The vocabularies that are spoken.
    pub profiles: Profiles,
    /// What is relayed and kept.
    pub rules: EventRules,
    /// How often progress is told.
    pub progress: ProgressPace,
    /// How whole contents are kept.
    pub content: ContentConfig,
    /// How PatioAI's vocabulary is spoken.
    pub patio: PatioConfig,
}

impl EventServices {
    /// The parts that change with time.
    pub fn timed(&self) -> Vec<Arc<dyn Timed>> {
        vec![Arc::new(self.jobs.clone()), self.patio.clone()]
    }

    /// Rooms without members, for the vocabularies that are spoken. Events are kept in a history; offsets come behind `last`.
    pub fn new(
        access: Access,
        (registry, readers): (Registry, Readers),
        config: EventConfig,
        (history, last): (History, u64),
        metrics: Metrics,
    ) -> Arc<Self> {
        let rooms = EventRooms::new(config.rooms, config.recovery, history.clone(), last);
        let alarm = Alarm::default();
        Arc::new(Self {
            patio: Patio::new(&config.patio, rooms.clone(), alarm.clone()),
            access,
            desks: Desks::new(registry, readers, rooms.clone(), config.content),
            jobs: Jobs::new(config.progress, rooms.clone(), history.clone(), alarm.clone()),
            can_recover: !config.recovery.window.is_zero(),
            rooms,
            profiles: config.profiles,
            broadcasts: BroadcastIds::default(),
            metrics,
            alarm,
            history,
        })
    }
}
