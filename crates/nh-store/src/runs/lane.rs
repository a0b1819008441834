use std::collections::BTreeMap;

use nh_types::WorkspaceId;

use crate::StoreError;

/// Runs of which only so many may be under way at once, such as those of one
/// agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Such as `agent:researcher` or `key:42`: of letters, digits and `:._-`.
    pub name: String,
    pub most: u32,
}

/// The line in which a run queues: `ws_…`, or `ws_…/agent:a=3,key:42=5` for one
/// that counts against bounds. A run's never changes.
pub(super) fn lane(workspace_id: &WorkspaceId, groups: &[Group]) -> String {
    let mut lane = workspace_id.to_string();
    for (place, Group { name, most }) in groups.iter().enumerate() {
        lane.push(if place == 0 { '/' } else { ',' });
        lane.push_str(&format!("{name}={most}"));
    }
    lane
}

/// What stands before the first `/`, and the groups behind it.
pub(super) fn parse(lane: &str) -> Result<(WorkspaceId, Vec<Group>), StoreError> {
    let damaged = || StoreError::Corrupt(format!("`{lane}` is no line of the queue"));
    let (workspace_id, groups) = lane.split_once('/').unwrap_or((lane, ""));
    let groups = groups.split(',').filter(|group| !group.is_empty()).map(|group| {
        let (name, most) = group.rsplit_once('=')?;
        Some(Group { name: name.to_owned(), most: most.parse().ok()? })
    });
    let groups = groups.collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
    Ok((workspace_id.parse().map_err(|_| damaged())?, groups))
}

/// A run at the head of its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) priority: i64,
    /// Its place among the lanes.
    pub(super) lane: usize,
}

/// Which runs of a workspace begin: the most urgent first, the oldest of those,
/// as far as their groups have room. `under_way` is how many runs of each group
/// are.
pub(super) fn choose(
    lanes: &[Vec<Group>],
    mut heads: Vec<Head>,
    mut under_way: BTreeMap<String, u32>,
    most: usize,
) -> Vec<String> {
    heads.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.id.cmp(&b.id)));
    let mut chosen = Vec::new();
    for head in heads {
        if chosen.len() >= most {
            break;
        }
        let groups = &lanes[head.lane];
        let has_room = |group: &Group| under_way.get(&group.name).is_none_or(|count| *count < group.most);
        if groups.iter().all(has_room) {
            groups.iter().for_each(|group| *under_way.entry(group.name.clone()).or_default() += 1);
            chosen.push(head.id);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, most: u32) -> Group {
        Group { name: name.to_owned(), most }
    }

    #[test]
    fn a_lane_survives_the_store() {
        let ws: WorkspaceId = "ws_0123456789abcdefghij".parse().expect("an id");
        let groups = vec![group("agent:a.b", 3), group("key:42", 1)];
        assert_eq!(lane(&ws, &groups), "ws_0123456789abcdefghij/agent:a.b=3,key:42=1");
        assert_eq!(parse(&lane(&ws, &groups)).expect("a lane"), (ws.clone(), groups));
        assert_eq!(parse(ws.as_str()).expect("a lane"), (ws, Vec::new()));
        assert!(parse("ws_0123456789abcdefghij/agent").is_err() && parse("").is_err());
    }

    #[test]
    fn groups_hold_together_across_lanes() {
        let lanes = [vec![], vec![group("agent:a", 2)], vec![group("agent:a", 2), group("key:1", 1)]];
        let head = |id: &str, priority, lane| Head { id: id.to_owned(), priority, lane };
        let heads = || {
            vec![
                head("1", 0, 1),
                head("2", 0, 2),
                head("3", 0, 2),
                head("4", 0, 1),
                head("5", 9, 1),
                head("6", 0, 0),
            ]
        };
        let chosen = |under_way: &[(&str, u32)], most| {
            let under_way = under_way.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            choose(&lanes, heads(), under_way, most).join(" ")
        };
        assert_eq!(chosen(&[], 9), "5 1 6");
        assert_eq!(chosen(&[("agent:a", 1)], 9), "5 6");
        assert_eq!(chosen(&[("agent:a", 2)], 9), "6");
        assert_eq!(chosen(&[("key:1", 1)], 2), "5 1");
    }
}
