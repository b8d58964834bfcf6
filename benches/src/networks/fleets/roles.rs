//! The tables of the fleets: tasks by name, network, natural period and criticality, and the chains they form.
//!
//! Tenants are groups: a task of one bears its name before the dot. Each may take an equal share of the lanes, and its
//! tasks' memory budgets together. What a fleet file cannot say stands here: jobs of sporadic tasks come from clients, and so
//! does an overload, which is more jobs than the task's period lets in. What a group declares fits its budgets, or it would
//! be refused; what its clients do then breaks its agreement and nobody else's.

use crate::networks::Size;

/// One task before its times are known.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its name.
    pub name: &'static str,
    /// The network that it runs.
    pub design: &'static str,
    /// Microseconds from job to job as the application would have it.
    pub natural: u64,
    /// `low`, `medium` or `high`.
    pub criticality: &'static str,
    /// The deadline, in hundredths of the period.
    pub deadline: u64,
    /// Whether clients release it, at most as often as the period says, instead of a clock.
    pub sporadic: bool,
    /// Its share of turns under the policy `fair`.
    pub weight: u64,
}

/// Tasks that hand data on, from sensor to effect.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Its tasks, in order.
    pub tasks: &'static [&'static str],
}

/// A group of tasks: those whose name begins with its own and a dot.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Its part of the time of all lanes, in hundredths.
    pub share: u32,
    /// Jobs in ten thousand that may miss or not be served.
    pub missed: u32,
}

impl Group {
    /// Whether a task of that name belongs to it.
    pub fn holds(&self, task: &str) -> bool {
        task.split_once('.').is_some_and(|(group, _)| group == self.name)
    }
}

/// A fleet before its times are known.
#[derive(Clone, Copy, Debug)]
pub struct FleetPlan {
    /// The word that chooses it.
    pub name: &'static str,
    /// What it stands for, in a line.
    pub about: &'static str,
    /// How large its networks are.
    pub size: Size,
    /// The policy that its tasks are meant for.
    pub policy: &'static str,
    /// Its tasks.
    pub roles: &'static [Role],
    /// Its chains.
    pub chains: &'static [Chain],
    /// Its groups.
    pub groups: &'static [Group],
}

/// Every fleet.
pub const FLEETS: [FleetPlan; 9] = [
    FleetPlan {
        name: "ad20",
        about: "Autonomous driving: twenty tasks, three criticalities, one chain from camera to prediction.",
        size: Size::Full,
        policy: "edf",
        roles: &DRIVING,
        chains: &[Chain { name: "ahead", tasks: &["camera_front", "detect_front", "track", "predict"] }],
        groups: &[],
    },
    FleetPlan {
        name: "robot10",
        about: "A mobile robot: four cameras, each with a chain to the common plan.",
        size: Size::Full,
        policy: "edf",
        roles: &ROBOT,
        chains: &[
            Chain { name: "front", tasks: &["camera_front", "detect_front", "plan"] },
            Chain { name: "left", tasks: &["camera_left", "detect_left", "plan"] },
            Chain { name: "right", tasks: &["camera_right", "detect_right", "plan"] },
            Chain { name: "rear", tasks: &["camera_rear", "detect_rear", "plan"] },
        ],
        groups: &[],
    },
    FleetPlan {
        name: "tenants12",
        about: "Four tenants, groups of three tasks with equal shares; clients of `burst` are meant to submit more than it declares.",
        size: Size::Full,
        policy: "fair",
        roles: &TENANTS,
        chains: &[],
        groups: &GROUPS,
    },
    disb("disb-a", "DISB A: one task 100 times a second beside one that runs whenever it can.", &DISB_A),
    disb("disb-b", "DISB B: one task 220 times a second beside one that runs whenever it can.", &DISB_B),
    disb("disb-c", "DISB C: one task 100 times a second beside five that run whenever they can.", &DISB_C),
    disb("disb-d", "DISB D: five tasks 20 times a second beside five that run whenever they can.", &DISB_D),
    disb("disb-e", "DISB E: as D, with jobs that clients release at random.", &DISB_E),
    FleetPlan {
        name: "offline",
        about: "Six small networks on processor cores: a fleet for a machine that has nothing but cargo.",
        size: Size::Tiny,
        policy: "edf",
        roles: &OFFLINE,
        // None: cores stretch the periods as they need, and a limit on the reaction made of shorter ones would refuse them.
        chains: &[],
        groups: &[],
    },
];

impl FleetPlan {
    /// The fleet of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        FLEETS.iter().find(|fleet| fleet.name == name)
    }
}

const fn disb(name: &'static str, about: &'static str, roles: &'static [Role]) -> FleetPlan {
    FleetPlan { name, about, size: Size::Full, policy: "edf", roles, chains: &[], groups: &[] }
}

/// A periodic task that is due when its next job is released.
const fn role(name: &'static str, design: &'static str, natural: u64, criticality: &'static str) -> Role {
    Role { name, design, natural, criticality, deadline: 100, sporadic: false, weight: 1 }
}

impl Role {
    /// The same, due earlier.
    const fn within(mut self, hundredths: u64) -> Self {
        self.deadline = hundredths;
        self
    }

    /// The same, released by clients.
    const fn sporadic(mut self) -> Self {
        self.sporadic = true;
        self
    }

    /// The same with another share of turns.
    const fn weight(mut self, weight: u64) -> Self {
        self.weight = weight;
        self
    }
}

const DRIVING: [Role; 20] = [
    role("camera_front", "camera", 33_000, "high"),
    role("detect_front", "detector", 33_000, "high"),
    role("track", "identity", 33_000, "high"),
    role("predict", "predictor", 50_000, "high"),
    role("lanes", "lanes", 33_000, "high").within(80),
    role("lidar", "pillars", 100_000, "high"),
    role("depth_front", "depth", 66_000, "high"),
    role("free_space", "segmentation", 66_000, "medium"),
    role("lights", "detector_small", 66_000, "medium"),
    role("signs", "signs", 66_000, "medium"),
    role("detect_rear", "detector_small", 66_000, "medium"),
    role("detect_left", "detector_small", 66_000, "medium"),
    role("detect_right", "detector_small", 66_000, "medium"),
    role("pedestrians", "pose", 100_000, "medium"),
    role("driver", "attention", 100_000, "low"),
    role("wake_word", "keyword", 80_000, "low"),
    role("speech", "speech", 250_000, "low"),
    role("weather", "classifier", 500_000, "low"),
    role("scene", "classifier_deep", 500_000, "low"),
    role("parking", "classifier_mobile", 250_000, "low"),
];

const ROBOT: [Role; 10] = [
    role("camera_front", "camera", 33_000, "high"),
    role("camera_left", "camera", 66_000, "medium"),
    role("camera_right", "camera", 66_000, "medium"),
    role("camera_rear", "camera", 66_000, "medium"),
    role("detect_front", "detector_small", 33_000, "high"),
    role("detect_left", "detector_small", 66_000, "medium"),
    role("detect_right", "detector_small", 66_000, "medium"),
    role("detect_rear", "detector_small", 66_000, "medium"),
    role("plan", "predictor", 50_000, "high").within(80),
    role("speech", "speech", 250_000, "low"),
];

/// Natural periods give each tenant about the same share of a large GPU.
const TENANTS: [Role; 12] = [
    role("gold.search", "classifier", 20_000, "high").weight(4).within(80),
    role("gold.faces", "identity", 40_000, "high").weight(4).within(80),
    role("gold.words", "speech", 60_000, "high").weight(4).within(80),
    role("silver.photos", "classifier_mobile", 20_000, "medium").weight(2),
    role("silver.scans", "segmentation", 60_000, "medium").weight(2),
    role("silver.voice", "keyword", 20_000, "medium").weight(2),
    role("bronze.albums", "classifier_deep", 40_000, "medium"),
    role("bronze.tags", "classifier_dense", 80_000, "medium"),
    role("bronze.poses", "pose", 40_000, "medium"),
    role("burst.video", "detector", 30_000, "low").sporadic(),
    role("burst.frames", "classifier_152", 80_000, "low").sporadic(),
    role("burst.thumbs", "signs", 40_000, "low").sporadic(),
];

/// Equal shares; the more a tenant pays, the fewer of its jobs may miss. Clients of `burst` that submit twice what it
/// declares have half of their jobs refused, five times what was agreed.
const GROUPS: [Group; 4] = [
    Group { name: "gold", share: 25, missed: 0 },
    Group { name: "silver", share: 25, missed: 100 },
    Group { name: "bronze", share: 25, missed: 500 },
    Group { name: "burst", share: 25, missed: 1_000 },
];

/// The real-time client of the first three: VGG-19 there, a network of its layers here.
const FIRST: Role = role("plain", "classifier_plain", 10_000, "high");

/// Best-effort clients run whenever they can. A fleet has no such word, so theirs are periodic tasks of low criticality
/// that together with the others make up the utilisation.
const CLOSED: [Role; 5] = [
    role("be_152", "classifier_152", 30_000, "low"),
    role("be_plain", "classifier_plain", 30_000, "low"),
    role("be_dense", "classifier_dense", 30_000, "low"),
    role("be_deep", "classifier_deep", 30_000, "low"),
    role("be_text", "predictor", 30_000, "low"),
];

const DISB_A: [Role; 2] = [FIRST, CLOSED[0]];
const DISB_B: [Role; 2] = [role("plain", "classifier_plain", 4_545, "high"), CLOSED[0]];
const DISB_C: [Role; 6] = [FIRST, CLOSED[0], CLOSED[1], CLOSED[2], CLOSED[3], CLOSED[4]];

const RATED: [Role; 5] = [
    role("rt_152", "classifier_152", 50_000, "high"),
    role("rt_dense", "classifier_dense", 50_000, "high"),
    role("rt_plain", "classifier_plain", 50_000, "high"),
    role("rt_deep", "classifier_deep", 50_000, "high"),
    role("rt_text", "predictor", 50_000, "high"),
];

const DISB_D: [Role; 10] =
    [RATED[0], RATED[1], RATED[2], RATED[3], RATED[4], CLOSED[0], CLOSED[1], CLOSED[2], CLOSED[3], CLOSED[4]];

const DISB_E: [Role; 10] = [
    RATED[0].sporadic(),
    RATED[1].sporadic(),
    RATED[2].sporadic(),
    RATED[3].sporadic(),
    RATED[4].sporadic(),
    CLOSED[0].sporadic(),
    CLOSED[1].sporadic(),
    CLOSED[2].sporadic(),
    CLOSED[3].sporadic(),
    CLOSED[4].sporadic(),
];

const OFFLINE: [Role; 6] = [
    role("camera", "camera", 20_000, "high"),
    role("detector", "detector", 40_000, "high"),
    role("identity", "identity", 40_000, "high"),
    role("segmentation", "segmentation", 80_000, "medium"),
    role("speech", "speech", 80_000, "medium"),
    role("classifier", "classifier_mobile", 100_000, "low"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::networks::Design;

    #[test]
    fn every_role_names_a_network_and_every_chain_tasks_of_its_fleet() {
        for fleet in &FLEETS {
            let names: BTreeSet<&str> = fleet.roles.iter().map(|role| role.name).collect();
            assert_eq!(names.len(), fleet.roles.len(), "{}: a name stands twice", fleet.name);
            for role in fleet.roles {
                assert!(Design::find(role.design).is_some(), "{}: {}", fleet.name, role.design);
                assert!((1..=100).contains(&role.deadline) && role.natural > 0, "{}", role.name);
            }
            for task in fleet.chains.iter().flat_map(|chain| chain.tasks) {
                assert!(names.contains(task), "{}: {task}", fleet.name);
            }
        }
    }

    #[test]
    fn fleets_are_as_their_names_say() {
        let of = |name| FleetPlan::find(name).expect("a fleet");
        assert_eq!(of("ad20").roles.len(), 20);
        let criticalities: BTreeSet<&str> = of("ad20").roles.iter().map(|role| role.criticality).collect();
        assert_eq!(criticalities.len(), 3);
        assert_eq!((of("robot10").roles.len(), of("robot10").chains.len()), (10, 4));
        let tenants: BTreeSet<&str> =
            of("tenants12").roles.iter().filter_map(|role| role.name.split('.').next()).collect();
        assert_eq!((of("tenants12").roles.len(), tenants.len()), (12, 4));
        assert!(tenants.iter().eq(&BTreeSet::from(GROUPS.map(|group| group.name))), "{tenants:?}");
        assert_eq!(GROUPS.iter().map(|group| group.share).sum::<u32>(), 100);
        assert!(of("disb-e").roles.iter().all(|role| role.sporadic));
        assert!(FleetPlan::find("ad21").is_none());
    }
}
