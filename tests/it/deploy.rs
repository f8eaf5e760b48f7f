//! What operators copy: files of containers, systemd and Kubernetes name settings that there are and start a server as they say.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;
use storage::testing::{Fault, disk::FaultyStore};

use crate::support::{
    database::skipped,
    process::{program, run, text},
    server::TestServer,
    token::SECRET,
    until,
};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file of the project")
}

fn documents(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(file)).expect("YAML")
}

/// Variables that a start takes without a word about them.
fn assert_good(file: &str, environment: &[(String, String)]) {
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let checked = run(&["check-config"], &environment);
    let said = text(&checked.stderr);
    assert!(
        checked.status.success() && said.is_empty(),
        "{file} with {environment:?}: {said}"
    );
    let help = text(&run(&["serve", "--help"], &[]).stdout);
    let known: BTreeSet<_> = help
        .split("[env: ")
        .skip(1)
        .filter_map(|rest| rest.split(['=', ']']).next())
        .collect();
    for (name, _) in environment {
        assert!(known.contains(name), "{file}: there is no setting {name}");
    }
}

/// `${NAME:-default}` as Compose replaces it where nothing is set.
fn unset(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else {
        return text.to_owned();
    };
    let (variable, after) = rest.split_once('}').expect("an end");
    let (_, default) = variable
        .split_once(":-")
        .expect("a default, so that one command is enough");
    format!("{before}{default}{}", unset(after))
}

fn pairs(map: &Value) -> Vec<(String, String)> {
    let map = map.as_object().expect("a map");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.iter()
        .map(|(name, value)| (name.clone(), unset(&text(value))))
        .collect()
}

#[test]
fn a_composition_starts_with_one_command_and_is_reached_from_this_machine_alone() {
    let compose = documents("compose.yaml").remove(0);
    let server = &compose["services"]["pageroom"];
    let environment: Vec<_> = pairs(&server["environment"])
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    assert_good("compose.yaml", &environment);
    let open = environment
        .iter()
        .any(|(name, value)| name == "PAGEROOM_AUTH" && value == "open");
    for port in server["ports"].as_array().expect("ports") {
        assert!(
            !open || port.as_str().expect("a port").starts_with("127.0.0.1:"),
            "open to everybody: {port}"
        );
    }
    let set = environment
        .iter()
        .find(|(name, _)| name == "DATABASE_URL")
        .map(|(_, url)| url.clone())
        .expect("a database");
    let database = pairs(&compose["services"]["postgres"]["environment"]);
    let password = database
        .iter()
        .find(|(name, _)| name == "POSTGRES_PASSWORD")
        .map(|(_, value)| value.clone());
    assert_eq!(
        set,
        format!(
            "postgres://pageroom:{}@postgres/pageroom",
            password.expect("a password")
        )
    );
}

#[test]
fn an_image_runs_as_nobody_and_listens_where_it_says() {
    let file = read("Dockerfile").replace("\\\n", " ");
    let lines: Vec<_> = file
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .collect();
    let last = lines
        .iter()
        .rposition(|line| line.starts_with("FROM "))
        .expect("an image");
    let all = |word: &str| -> Vec<&str> {
        let rest = lines[last..].iter().filter_map(|line| line.strip_prefix(word));
        rest.map(str::trim).collect()
    };
    for image in lines.iter().filter_map(|line| line.strip_prefix("FROM ")) {
        let name = image.split_whitespace().next().expect("a name");
        let tag = name
            .rsplit(':')
            .next()
            .filter(|tag| *tag != name && *tag != "latest");
        assert!(tag.is_some(), "{image} is another image tomorrow");
    }
    let user = all("USER ").pop().expect("a user");
    assert!(
        user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    let mut environment: Vec<(String, String)> = all("ENV ")
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|pair| pair.split_once('=').expect("a pair"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let of = |name: &str| {
        environment
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(of("HOST"), Some("0.0.0.0"));
    assert_eq!(all("EXPOSE "), [of("PORT").expect("a port")]);
    assert!(of("DATABASE_URL").is_some_and(|url| url.starts_with("sqlite:///data/")));
    assert!(all("VOLUME ").contains(&"/data"));
    assert_eq!(
        all("ENTRYPOINT "),
        [r#"["pageroom"]"#],
        "signals reach the server, not a shell"
    );
    assert!(all("HEALTHCHECK ")[0].ends_with(r#"CMD ["pageroom", "health"]"#));
    // Without a secret it does not start; with one it does.
    let bare: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let refused = run(&["check-config"], &bare);
    assert!(
        text(&refused.stderr).contains("JWT_SECRET"),
        "{}",
        text(&refused.stderr)
    );
    environment.push(("JWT_SECRET".to_owned(), SECRET.to_owned()));
    assert_good("Dockerfile", &environment);
}

#[test]
fn manifests_name_settings_and_probes_that_there_are() {
    let documents = documents("deploy/kubernetes.yaml");
    let deployment = documents
        .iter()
        .find(|document| document["kind"] == "Deployment")
        .expect("a deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mut environment: Vec<(String, String)> = container["env"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|pair| {
            (
                pair["name"].as_str().expect("a name").to_owned(),
                pair["value"].as_str().expect("text").to_owned(),
            )
        })
        .collect();
    let given = read("deploy/kubernetes.yaml");
    for literal in given.split("--from-literal=").skip(1) {
        let (name, value) = literal.split_once('=').expect("a pair");
        let value = match value.starts_with('"') {
            // What `openssl rand` makes.
            true => format!("{name}-{}", "0".repeat(64)),
            false => value.split_whitespace().next().expect("a value").to_owned(),
        };
        environment.push((name.to_owned(), value));
    }
    assert_good("deploy/kubernetes.yaml", &environment);
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    let service = documents
        .iter()
        .find(|document| document["kind"] == "Service")
        .expect("a service");
    assert_eq!(
        service["spec"]["selector"],
        deployment["spec"]["selector"]["matchLabels"]
    );
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        container["ports"][0]["name"]
    );
}

#[test]
fn systemd_takes_the_unit_and_finds_little_that_it_may_do() {
    let unit = read("deploy/pageroom.service");
    let environment: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_good("deploy/pageroom.service", &environment);
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skipped("systemd-analyze is not there to look at deploy/pageroom.service");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pageroom.service");
    let unit = unit.replace("/usr/local/bin/pageroom", env!("CARGO_BIN_EXE_pageroom"));
    fs::write(&file, unit).expect("a file");
    let analyze = |arguments: &[&str]| {
        let analyzed = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&file)
            .output();
        let analyzed = analyzed.expect("a program that starts");
        let said = text(&analyzed.stderr) + &text(&analyzed.stdout);
        // Of this file; what else the machine has is its own.
        let about = said.lines().filter(|line| line.contains("pageroom.service"));
        (analyzed.status.success(), about.collect::<Vec<_>>().join("\n"))
    };
    let (_, said) = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    assert_eq!(said, "");
    // Nothing of 10 is what a service may do that may do nothing; 10 is one that may do everything.
    let (is_safe, said) = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
    assert!(is_safe, "{said}");
}

#[tokio::test]
async fn a_probe_ends_with_nothing_only_when_the_server_can_serve() {
    let disk = FaultyStore::in_memory();
    let server = TestServer::start_on(disk.clone(), &[]).await;
    let port = server.address.port().to_string();
    let probe = async |more: &[&str], host: &str| {
        let mut command = program();
        command
            .arg("health")
            .args(more)
            .envs([("HOST", host), ("PORT", &port)]);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("a thread").expect("a program that starts");
        (output.status.code(), text(&output.stderr))
    };
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        assert_eq!(probe(&[], host).await, (Some(0), String::new()));
    }
    disk.turn(|faults| faults.fail_until_healed(Fault::Unavailable));
    until("the server to know of its store", async || {
        probe(&[], "127.0.0.1").await.0 == Some(1)
    })
    .await;
    let (_, said) = probe(&[], "127.0.0.1").await;
    assert!(
        said.contains("answers 503") && said.contains("the store cannot be reached"),
        "{said}"
    );
    assert_eq!(probe(&["--alive"], "127.0.0.1").await, (Some(0), String::new()));
    disk.turn(|faults| faults.heal());
    assert!(server.stop().await);
    let (code, said) = probe(&[], "127.0.0.1").await;
    assert!(
        code == Some(1) && said.contains("no server answers at 127.0.0.1"),
        "{said}"
    );
}
