//! What is released: the workflow builds every platform that the npm package names, and takes no step that it need not take.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file of the project")
}

fn workflow() -> Value {
    serde_saphyr::from_str(&read(".github/workflows/release.yml")).expect("YAML")
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().expect("jobs").iter()
}

fn steps(job: &Value) -> &Vec<Value> {
    job["steps"].as_array().expect("steps")
}

/// What the packing script takes as the name of a platform.
fn platforms() -> BTreeSet<String> {
    let script = read("deploy/npm-pack");
    let names = script
        .lines()
        .find_map(|line| line.trim().strip_suffix(") ;;"))
        .expect("the platforms there are");
    names.split(" | ").map(str::to_owned).collect()
}

#[test]
fn a_release_is_of_a_tag_and_of_all_platforms() {
    let workflow = workflow();
    let on = workflow["on"].as_object().expect("events");
    assert_eq!(on.keys().collect::<Vec<_>>(), ["push"]);
    assert_eq!(on["push"], serde_json::json!({ "tags": ["v*"] }));
    let matrix = workflow["jobs"]["server"]["strategy"]["matrix"]["include"]
        .as_array()
        .expect("a matrix");
    let built: BTreeSet<_> = matrix
        .iter()
        .map(|row| row["platform"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(built, platforms());
    for row in matrix {
        let (platform, target) = (
            row["platform"].as_str().expect("a name"),
            row["target"].as_str().expect("a target"),
        );
        assert!(
            !platform.starts_with("linux") || target.ends_with("-musl"),
            "{platform} needs libraries"
        );
    }
    let packing = steps(&workflow["jobs"]["npm"])
        .iter()
        .filter_map(|step| step["run"].as_str())
        .find(|script| script.contains("deploy/npm-pack"))
        .expect("a step that packs");
    let listed = packing
        .lines()
        .find_map(|line| line.trim().strip_prefix("for platform in "))
        .and_then(|line| line.strip_suffix("; do"))
        .expect("a list");
    assert_eq!(
        listed.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(),
        platforms()
    );
    let readme = read("npm/README.md");
    assert!(
        readme.contains("Linux (x64, arm64) and macOS (x64, arm64)"),
        "{readme}"
    );
}

#[test]
fn jobs_have_a_limit_and_only_the_rights_they_use() {
    let workflow = workflow();
    assert_eq!(workflow["permissions"], serde_json::json!({ "contents": "read" }));
    for (name, job) in jobs(&workflow) {
        assert!(job["timeout-minutes"].as_u64().is_some(), "{name} may hang");
        let text = job.to_string();
        for (right, used) in [("packages", "docker"), ("id-token", "--provenance")] {
            let is_granted = job["permissions"][right] == "write";
            assert_eq!(is_granted, text.contains(used), "{name}: {right}");
        }
        assert_eq!(
            job["permissions"]["contents"] == "write",
            text.contains("gh release"),
            "{name}"
        );
        for step in steps(job) {
            let Some(action) = step["uses"].as_str() else {
                continue;
            };
            let (_, version) = action.split_once('@').expect("a version");
            let is_hash =
                version.len() == 40 && version.chars().all(|character| character.is_ascii_hexdigit());
            assert!(is_hash, "{action} is another action tomorrow");
        }
    }
}

#[test]
fn scripts_of_workflows_are_scripts() {
    for file in [".github/workflows/release.yml", ".github/workflows/ci.yml"] {
        let workflow: Value = serde_saphyr::from_str(&read(file)).expect("YAML");
        let scripts: Vec<_> = jobs(&workflow)
            .flat_map(|(_, job)| steps(job))
            .filter_map(|step| step["run"].as_str())
            .collect();
        assert!(!scripts.is_empty(), "{file}");
        for script in scripts {
            // What stands in `${{ … }}` would be a part of the script, whatever it says.
            assert!(!script.contains("${{"), "{file}: {script}");
            let mut shell = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .expect("bash");
            let mut input = shell.stdin.take().expect("an input");
            input.write_all(script.as_bytes()).expect("a shell that reads");
            drop(input);
            assert!(shell.wait().expect("an end").success(), "{file}: {script}");
        }
    }
}
