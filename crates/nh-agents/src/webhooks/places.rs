use std::collections::HashMap;

use nh_store::webhooks::Lane;
use nh_types::Timestamp;

/// Deliveries under way at once.
const MAX_UNDER_WAY: u32 = 256;
/// Of them, for one workspace, and to one host of it: whoever is slow keeps
/// nobody else waiting.
const MAX_PER_WORKSPACE: u32 = 96;
const MAX_PER_LANE: u32 = 16;

/// Who may begin: what is under way, by lane and by workspace.
#[derive(Debug, Default)]
pub(super) struct Places {
    lanes: HashMap<String, u32>,
    workspaces: HashMap<String, u32>,
    taken: u32,
    /// The lane that was chosen last: the next choice begins behind it.
    last: String,
}

fn workspace(lane: &str) -> &str {
    lane.split(' ').next().unwrap_or_default()
}

impl Places {
    /// The lanes that have something due and a place, and how many each.
    pub(super) fn choose(&mut self, lanes: &[Lane], now: Timestamp) -> Vec<(String, u32)> {
        let behind = lanes.partition_point(|lane| lane.name <= self.last);
        let (before, after) = lanes.split_at(behind);
        let mut free = MAX_UNDER_WAY.saturating_sub(self.taken);
        let mut of_workspaces: HashMap<&str, u32> = HashMap::new();
        let mut chosen = Vec::new();
        for lane in after.iter().chain(before).filter(|lane| lane.due_at <= now) {
            let owner = workspace(&lane.name);
            let promised = of_workspaces.entry(owner).or_default();
            let of_owner = self.workspaces.get(owner).unwrap_or(&0) + *promised;
            let of_lane = *self.lanes.get(&lane.name).unwrap_or(&0);
            let room = MAX_PER_LANE
                .saturating_sub(of_lane)
                .min(MAX_PER_WORKSPACE.saturating_sub(of_owner))
                .min(free);
            if room > 0 {
                *promised += room;
                free -= room;
                chosen.push((lane.name.clone(), room));
            }
        }
        if let Some((last, _)) = chosen.last() {
            self.last.clone_from(last);
        }
        chosen
    }

    pub(super) fn take(&mut self, lane: &str) {
        self.taken += 1;
        *self.lanes.entry(lane.to_owned()).or_default() += 1;
        *self.workspaces.entry(workspace(lane).to_owned()).or_default() += 1;
    }

    pub(super) fn give(&mut self, lane: &str) {
        self.taken = self.taken.saturating_sub(1);
        give_one(&mut self.lanes, lane);
        give_one(&mut self.workspaces, workspace(lane));
    }
}

/// What is down to nothing is forgotten.
fn give_one(taken: &mut HashMap<String, u32>, name: &str) {
    if let Some(count) = taken.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            taken.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, due_ms: i64) -> Lane {
        Lane { name: name.to_owned(), due_at: Timestamp::from_millis(due_ms) }
    }

    fn names(chosen: &[(String, u32)]) -> Vec<(&str, u32)> {
        chosen.iter().map(|(name, count)| (name.as_str(), *count)).collect()
    }

    #[test]
    fn a_lane_has_no_more_than_its_places_and_others_go_on() {
        let (mut places, now) = (Places::default(), Timestamp::from_millis(10));
        let lanes = [lane("w a", 1), lane("w b", 11), lane("x c", 10)];
        assert_eq!(names(&places.choose(&lanes, now)), [("w a", 16), ("x c", 16)]);
        (0..16).for_each(|_| places.take("w a"));
        assert_eq!(names(&places.choose(&lanes, now)), [("x c", 16)]);
        places.give("w a");
        assert_eq!(names(&places.choose(&lanes, now)), [("w a", 1), ("x c", 16)]);
    }

    #[test]
    fn a_workspace_of_many_hosts_has_no_more_than_its_places() {
        let (mut places, now) = (Places::default(), Timestamp::from_millis(10));
        let mut lanes: Vec<Lane> = (0..30).map(|host| lane(&format!("w h{host:02}"), 1)).collect();
        lanes.push(lane("x only", 1));
        let chosen = places.choose(&lanes, now);
        assert_eq!(chosen.len(), 7);
        assert_eq!(chosen.last(), Some(&("x only".to_owned(), 16)));
        // The next choice begins with those that came off badly.
        (0..16).for_each(|_| places.take("x only"));
        places.last = "w h05".to_owned();
        assert_eq!(places.choose(&lanes, now).first().map(|(name, _)| name.as_str()), Some("w h06"));
    }

    #[test]
    fn nothing_is_remembered_of_what_has_ended() {
        let mut places = Places::default();
        (0..300).for_each(|_| places.take("w a"));
        assert!(places.choose(&[lane("x b", 1)], Timestamp::from_millis(1)).is_empty());
        (0..300).for_each(|_| places.give("w a"));
        assert!(places.lanes.is_empty() && places.workspaces.is_empty());
    }
}
