//! Pageroom.
