//! Who subscribes to a topic: a tree over the levels of filters. (MQTT 3.1.1, 4.7)

use std::collections::HashMap;

use crate::limits;
use crate::message::Qos;
use crate::state::SessionId;

/// All subscriptions, by filter. Made from the sessions and never stored.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    subscribers: Vec<(SessionId, Qos)>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.subscribers.is_empty()
    }
}

/// Whether topic or filter have no more levels than are walked.
pub(crate) fn within_limits(topic: &str) -> bool {
    topic.split('/').count() <= limits::TOPIC_LEVELS
}

impl Topics {
    /// Adds a subscription or changes its QoS.
    pub(crate) fn insert(&mut self, filter: &str, session: SessionId, qos: Qos) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        match node.subscribers.iter_mut().find(|(id, _)| *id == session) {
            Some((_, old)) => *old = qos,
            None => node.subscribers.push((session, qos)),
        }
    }

    /// Takes a subscription away.
    pub(crate) fn remove(&mut self, filter: &str, session: SessionId) {
        remove(&mut self.root, &mut filter.split('/'), session);
    }

    /// Every session whose filters match, once, with the highest QoS of those; in order of the sessions.
    pub(crate) fn matching(&self, topic: &str, found: &mut Vec<(SessionId, Qos)>) {
        found.clear();
        // A wildcard at the beginning does not match the broker's own topics. (MQTT 3.1.1, 4.7.2)
        collect(&self.root, Some(topic), !topic.starts_with('$'), found);
        found.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        found.dedup_by_key(|(session, _)| *session);
    }
}

fn remove(node: &mut Node, levels: &mut std::str::Split<'_, char>, session: SessionId) {
    let Some(level) = levels.next() else {
        node.subscribers.retain(|(id, _)| *id != session);
        return;
    };
    if let Some(child) = node.children.get_mut(level) {
        remove(child, levels, session);
        if child.is_empty() {
            node.children.remove(level);
        }
    }
}

fn collect(node: &Node, rest: Option<&str>, wildcards: bool, found: &mut Vec<(SessionId, Qos)>) {
    if wildcards && let Some(all) = node.children.get("#") {
        found.extend_from_slice(&all.subscribers);
    }
    let Some(rest) = rest else {
        found.extend_from_slice(&node.subscribers);
        return;
    };
    let (level, rest) = match rest.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (rest, None),
    };
    if let Some(child) = node.children.get(level) {
        collect(child, rest, true, found);
    }
    if wildcards && let Some(child) = node.children.get("+") {
        collect(child, rest, true, found);
    }
}

/// Whether one filter matches one topic.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(found)) if level == found => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(topics: &Topics, topic: &str) -> Vec<(SessionId, Qos)> {
        let mut found = vec![(SessionId(99), Qos::AtMostOnce)];
        topics.matching(topic, &mut found);
        found
    }

    #[test]
    fn wildcards_match_as_the_standard_shows() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "sport/tennis", true),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
        ] {
            let mut topics = Topics::default();
            topics.insert(filter, SessionId(1), Qos::AtLeastOnce);
            assert_eq!(
                !found(&topics, topic).is_empty(),
                expected,
                "{filter} and {topic}"
            );
            assert_eq!(
                matches(filter, topic),
                expected,
                "{filter} and {topic}, one by one"
            );
            topics.remove(filter, SessionId(1));
            assert!(topics.root.is_empty(), "{filter} leaves a node");
        }
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_a_look_at_each_filter(
            filters in prop::collection::vec(("[ab+$]?(/[ab+]?){0,3}(/#)?", 0_u32..4, 0_u8..3), 0..12),
            topic in "[ab$]?(/[ab]?){0,3}",
        ) {
            let mut topics = Topics::default();
            let mut expected = std::collections::BTreeMap::new();
            for (filter, session, qos) in &filters {
                let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(*qos)];
                topics.insert(filter, SessionId(*session), qos);
                expected.insert((filter, *session), qos);
            }
            let mut best = std::collections::BTreeMap::new();
            for ((filter, session), qos) in expected {
                if matches(filter, &topic) {
                    let best = best.entry(SessionId(session)).or_insert(qos);
                    *best = qos.max(*best);
                }
            }
            prop_assert_eq!(found(&topics, &topic), best.into_iter().collect::<Vec<_>>());
        }
    }
}
