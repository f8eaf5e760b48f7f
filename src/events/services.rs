//! What is configured of rooms without a document, and the parts that are made of it.

use std::sync::Arc;

use storage::SharedStore;

use super::{
    BroadcastIds, Components, ContentConfig, Desks, DriveViewers, Drives, EventRules, EventServices, History,
    Jobs, Patio, PatioConfig, Presence, Profiles, ProgressPace, RecoveryLimits, RoomLimits, Timed,
    awareness::AwarenessLink,
};
use crate::{access::Access, reader::Readers, rooms::Registry, telemetry::Metrics};

/// What is configured of rooms without a document.
#[derive(Clone, Debug)]
pub struct EventConfig {
    /// Limits of the rooms.
    pub rooms: RoomLimits,
    /// Of those who type at a page, so many are named at a time.
    pub typing_names: usize,
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
        vec![
            Arc::new(self.jobs.clone()),
            self.presence.clone(),
            self.drives.clone(),
            self.patio.clone(),
            self.components.clone(),
        ]
    }

    /// What the vocabularies that are spoken need, with those who are at the pages. Events are kept in a history, and in the store when
    /// members were last in a drive.
    pub fn new(
        access: Access,
        presence: Arc<Presence>,
        (registry, readers): (Registry, Readers),
        (store, history): (SharedStore, History),
        config: EventConfig,
        metrics: Metrics,
    ) -> Arc<Self> {
        let format = config.content.default_format;
        presence.link(AwarenessLink::new(
            registry.clone(),
            readers.clone(),
            format,
            &presence,
        ));
        let (rooms, alarm) = (presence.rooms().clone(), presence.alarm().clone());
        let components = Components::new(
            (registry.clone(), readers.clone()),
            (rooms.clone(), alarm.clone()),
            history.clone(),
            config.content.versions,
        );
        let drive_viewers = DriveViewers::new(access.clone(), &presence);
        if access.knows_drives() {
            presence.show_to_drives(drive_viewers.clone());
        }
        Arc::new(Self {
            components,
            patio: Patio::new(&config.patio, rooms.clone(), alarm.clone()),
            access,
            desks: Desks::new((registry, readers), store.clone(), rooms.clone(), config.content),
            drive_viewers,
            drives: Arc::new(Drives::new(rooms.clone(), alarm.clone(), store)),
            jobs: Jobs::new(config.progress, rooms.clone(), history.clone(), alarm.clone()),
            can_recover: !config.recovery.window.is_zero(),
            rooms,
            profiles: config.profiles,
            broadcasts: BroadcastIds::default(),
            metrics,
            alarm,
            history,
            presence,
        })
    }
}
