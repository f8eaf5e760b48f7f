//! The README's table of requests names what `GET /openapi.json` describes, all of it and nothing else.

use std::collections::BTreeSet;

use crate::{
    docs::read,
    openapi::{Route, described, operations},
};

/// What a path is relative to in rows that name no whole one.
const PAGE: &str = "/api/pages/{id}";

/// The first cells of the table.
fn rows(readme: &str) -> Vec<&str> {
    let (_, table) = readme
        .split_once("| request | answer |\n|---|---|\n")
        .expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    table
        .lines()
        .map(|row| row.trim_start_matches("| ").split(" | ").next().expect("a cell"))
        .collect()
}

/// The routes that a cell names. `…` stands for as much of the row's whole path as makes it a route, and a method alone, or with a body, is
/// one of the path before it.
fn routes(cell: &str, known: &BTreeSet<Route>) -> Vec<Route> {
    let (mut whole, mut last) = (PAGE.to_owned(), None);
    let mut routes = Vec::new();
    for words in cell.split('`').skip(1).step_by(2) {
        let (method, path) = match words.split_once(' ').unwrap_or((words, "")) {
            (method, path) if method.bytes().all(|byte| byte.is_ascii_uppercase()) => (method, path),
            _ => ("GET", words),
        };
        let method = method.to_ascii_lowercase();
        let path = path.split('?').next().unwrap_or_default();
        let route = match path.strip_prefix('…') {
            Some(end) => {
                let parts = whole.match_indices('/').map(|(at, _)| at).chain([whole.len()]);
                let mut paths = parts.rev().map(|at| format!("{}{end}", &whole[..at]));
                let longest = paths.find(|path| known.contains(&(method.clone(), path.clone())));
                longest.unwrap_or_else(|| panic!("{cell}: {words} is no route"))
            }
            None if path.starts_with('/') => {
                path.clone_into(&mut whole);
                path.to_owned()
            }
            // A parameter of what was named before.
            None if words.starts_with('?') => continue,
            None => last.unwrap_or_else(|| panic!("{cell}: {words} stands alone")),
        };
        last = Some(route.clone());
        routes.push((method, route));
    }
    routes
}

#[tokio::test]
async fn the_table_of_requests_has_every_route() {
    let document = described().await;
    let operations = operations(&document);
    let known: BTreeSet<Route> = operations.keys().cloned().collect();
    // Those of y-sweet are its own client's, which has a line among the clients.
    let wanted: BTreeSet<Route> = operations
        .iter()
        .filter(|(_, operation)| operation["tags"][0] != "y-sweet")
        .map(|(route, _)| route.clone())
        .collect();
    let readme = read("README.md");
    let rows = rows(&readme);
    assert!(rows.len() > 30, "{} rows", rows.len());
    let named: BTreeSet<Route> = rows.iter().flat_map(|cell| routes(cell, &known)).collect();
    let gone: Vec<_> = named.difference(&known).collect();
    assert!(gone.is_empty(), "in the README, and no route: {gone:?}");
    let missing: Vec<_> = wanted.difference(&named).collect();
    assert!(missing.is_empty(), "in no row of the README: {missing:?}");
}

#[test]
fn cells_are_read_as_people_read_them() {
    let route = |method: &str, path: &str| (method.to_owned(), path.to_owned());
    let known = BTreeSet::from([
        route("get", "/a/{id}/b/{c}"),
        route("post", "/a/{id}/d"),
        route("get", "/api/pages/{id}/content"),
    ]);
    assert_eq!(
        routes(
            "`GET /a/{id}/b?x=`, `PUT {keep}`, `GET …/{c}`, `POST …/d`; `/e`",
            &known
        ),
        [
            route("get", "/a/{id}/b"),
            route("put", "/a/{id}/b"),
            route("get", "/a/{id}/b/{c}"),
            route("post", "/a/{id}/d"),
            route("get", "/e"),
        ]
    );
    assert_eq!(
        routes("`…/content` with `?seq=`", &known),
        [route("get", "/api/pages/{id}/content")]
    );
}
