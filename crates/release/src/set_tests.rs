//! Sets that are sound, sets that are not, and what they lack.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn release(component: &str, version: &str, requires: &[(&str, &str)]) -> Release {
    let requires: BTreeMap<_, _> = requires.iter().copied().collect();
    let custom = json!({"drover": {
        "format": 1, "update_id": "0123456789abcdef0123456789abcdef", "component": component,
        "version": version, "counter": 7, "form": "single", "file_name": "a.jar",
        "requires": {"components": requires}, "run": {"how": "exec", "program": "a.jar"},
        "released": "2026-01-01T00:00:00Z",
    }});
    Release::from_custom(&custom).unwrap()
}

fn member(component: &str) -> Member {
    Member {
        component: component.parse().unwrap(),
        version: "2".parse().unwrap(),
        counter: 7,
        target: format!("{component}/2.0.0/a.jar").parse().unwrap(),
        sha256: Digest::of(component.as_bytes()),
    }
}

fn set(components: &[&str]) -> ReleaseSet {
    ReleaseSet {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        members: components.iter().map(|name| member(name)).collect(),
    }
}

/// A component, the version that is installed, and what that requires.
type Here<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

fn installed(here: &[Here<'_>]) -> BTreeMap<Component, Beside> {
    let beside = here.iter().map(|(component, version, requires)| {
        let release = release(component, version, requires);
        let beside = Beside {
            version: release.version,
            requires: release.requires.components,
        };
        (release.component, beside)
    });
    beside.collect()
}

fn told(releases: &[&Release], here: &[Here<'_>]) -> Vec<String> {
    unmet(releases, &installed(here))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_set_keeps_its_order_and_refuses_what_it_does_not_know() {
    let good = set(&["b", "a"]);
    good.check().unwrap();
    let mut value = serde_json::to_value(&good).unwrap();
    assert_eq!(value.pointer("/members/0/component"), Some(&json!("b")));
    assert_eq!(serde_json::from_value::<ReleaseSet>(value.clone()).unwrap(), good);
    value["unless"] = json!("raining");
    assert!(serde_json::from_value::<ReleaseSet>(value).is_err());
}

#[test]
fn each_fault_of_a_set_is_named() {
    let names: Vec<String> = (0..=limits::SET_MEMBERS).map(|i| format!("c{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    set(&names[1..]).check().unwrap();
    assert_eq!(set(&names).check(), Err(SetError::Size(names.len())));
    assert_eq!(set(&["a"]).check(), Err(SetError::Size(1)));
    assert_eq!(
        set(&["a", "b", "a"]).check(),
        Err(SetError::Twice("a".parse().unwrap()))
    );
    let mut bad = set(&["a", "b"]);
    bad.id = bad.id.to_uppercase();
    assert_eq!(bad.check(), Err(SetError::Id));
    let mut bad = set(&["a", "b"]);
    bad.members[1].counter = limits::COUNTER + 1;
    assert_eq!(bad.check(), Err(SetError::Counter("b".parse().unwrap())));
    let mut bad = set(&["a", "b"]);
    bad.members[1].target = bad.members[0].target.clone();
    assert!(matches!(bad.check(), Err(SetError::Path { .. })));
}

#[test]
fn a_release_is_a_member_of_its_own_set() {
    let set = set(&["a", "b"]);
    set.check_release(&release("a", "2", &[])).unwrap();
    let other_counter = Release {
        counter: 8,
        ..release("a", "2", &[])
    };
    let other_file = Release {
        file_name: "b.jar".to_owned(),
        ..release("a", "2", &[])
    };
    let strangers = [
        release("a", "3", &[]),
        release("c", "2", &[]),
        other_counter,
        other_file,
    ];
    for stranger in strangers {
        let refused = set.check_release(&stranger);
        assert!(matches!(refused, Err(SetError::Stranger { .. })), "{stranger:?}");
    }
    let agent = Release {
        kind: Kind::Agent,
        ..release("a", "2", &[])
    };
    assert_eq!(
        set.check_release(&agent),
        Err(SetError::Agent("a".parse().unwrap()))
    );
}

#[test]
fn requirements_are_held_against_what_is_installed_afterwards() {
    let broker = release("broker", "2", &[]);
    let client = release("client", "2", &[("broker", ">=2")]);
    let old: Here<'_> = ("broker", "1", &[]);
    assert!(told(&[&client, &broker], &[old]).is_empty());
    assert_eq!(
        told(&[&client], &[old]),
        ["client 2.0.0 requires broker >=2, with the set it would be 1.0.0"]
    );
    assert_eq!(
        told(&[&client], &[]),
        ["client 2.0.0 requires broker >=2, which neither is in the set nor installed"]
    );
}

#[test]
fn what_stays_holds_its_requirements_and_what_goes_does_not() {
    let broker = release("broker", "2", &[]);
    let client = release("client", "2", &[]);
    let stays: &[Here<'_>] = &[("client", "1", &[("broker", "<2")])];
    assert_eq!(
        told(&[&broker], stays),
        ["client 1.0.0 requires broker <2, with the set it would be 2.0.0"]
    );
    assert!(told(&[&broker, &client], stays).is_empty());
}

proptest! {
    /// However many there are: each requirement is told if and only if it is not met, in any order of the releases.
    #[test]
    fn exactly_what_is_not_met_is_named(
        versions in prop::collection::vec(1_u64..4, 2..6),
        wants in prop::collection::vec((0_usize..6, 0_usize..6, 1_u64..4), 0..10),
        new in prop::collection::vec(any::<bool>(), 6),
    ) {
        let name = |i: usize| format!("c{i}");
        let mut needs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        needs.extend(wants.iter().filter(|(a, b, _)| a != b && *a < versions.len()).map(|(a, b, v)| ((*a, *b), *v)));
        let all: Vec<Release> = versions.iter().enumerate().map(|(i, version)| {
            let mut release = release(&name(i), &version.to_string(), &[]);
            release.requires.components = needs.iter().filter(|((a, _), _)| *a == i)
                .map(|((_, b), v)| (name(*b).parse().unwrap(), format!("={v}").parse().unwrap())).collect();
            release
        }).collect();
        let mut here = BTreeMap::new();
        let mut releases = Vec::new();
        for (release, is_new) in all.iter().zip(new) {
            if is_new {
                releases.push(release);
            } else {
                let requires = release.requires.components.clone();
                here.insert(release.component.clone(), Beside { version: release.version.clone(), requires });
            }
        }
        let expected: Vec<(String, String)> = needs.iter()
            .filter(|((_, b), v)| versions.get(*b) != Some(*v))
            .map(|((a, b), _)| (name(*a), name(*b))).collect();
        let pairs = |unmet: Vec<Unmet>| -> Vec<(String, String)> {
            unmet.iter().map(|u| (u.component.as_str().to_owned(), u.needs.as_str().to_owned())).collect()
        };
        prop_assert_eq!(pairs(unmet(&releases, &here)), expected.clone());
        releases.reverse();
        prop_assert_eq!(pairs(unmet(&releases, &here)), expected);
    }
}
