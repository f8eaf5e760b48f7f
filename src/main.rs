//! Pageroom.
fn main(){}
