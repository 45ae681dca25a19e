//! The operator: whether it is there, works, and sees what this command sees.

use super::{
    finding::{Finding, Level, Read},
    program::Program,
};
use crate::leader;

const CHECK: &str = "operator";

/// What there is of the operator.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The namespace that was looked at.
    pub namespace: String,
    /// Its Deployments there.
    pub programs: Read<Vec<Program>>,
    /// Its Lease; none if there is none.
    pub lease: Read<Option<Lease>>,
}

/// The Lease of its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub holder: Option<String>,
    /// Whether it was renewed while this command looked at it.
    pub is_renewed: bool,
}

/// What this command was told, which should be what the operator was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// The version of this binary.
    pub version: &'static str,
    /// The namespace of the objects.
    pub namespace: String,
    /// `--issuer`, or what the API server says.
    pub issuer: Option<String>,
    /// The audience of federated credentials.
    pub audience: String,
}

/// Whether the operator runs and leads, and whether it was started as this command.
#[must_use]
pub fn check(operator: &Operator, told: &Told) -> Vec<Finding> {
    let mut findings = match &operator.programs {
        Err(unread) => vec![Finding::unread(CHECK, unread)],
        Ok(programs) if programs.is_empty() => vec![absent(operator)],
        Ok(programs) => programs
            .iter()
            .flat_map(|program| of_program(program, told))
            .collect(),
    };
    findings.push(match &operator.lease {
        Err(unread) => Finding::unread(CHECK, unread),
        Ok(lease) => leading(operator, lease.as_ref()),
    });
    findings
}

fn absent(operator: &Operator) -> Finding {
    let namespace = &operator.namespace;
    Finding::ok(
        CHECK,
        format!("namespace/{namespace}"),
        "no Deployment of the operator",
    )
    .at(Level::Warning)
    .why("It is not installed, or in another namespace")
    .fix("Say where it is: --operator-namespace <name>; or install it: README.md, Install")
}

fn of_program(program: &Program, told: &Told) -> Vec<Finding> {
    let at = |level, what: String| Finding::ok(CHECK, program.object(), what).at(level);
    let mut findings = Vec::new();
    if program.ready == 0 {
        let (namespace, name) = (&program.namespace, &program.name);
        findings.push(
            at(Level::Error, "no pod of it is ready".into())
                .why("Nothing is written, kept true or cleaned up while it does not run")
                .fix(format!(
                    "kubectl describe deployment {name} -n {namespace} && kubectl logs deployment/{name} -n {namespace}; a stopped one: kubectl scale deployment {name} -n {namespace} --replicas=2"
                )),
        );
    }
    findings.push(match program.version.as_deref() {
        Some(version) if version == told.version => {
            at(Level::Ok, format!("version {version}, as this command"))
        }
        Some(version) => at(
            Level::Warning,
            format!("version {version}, while this command is {}", told.version),
        )
        .why("Another version may see and do other things")
        .fix(format!(
            "Use the command of version {version}, or upgrade the operator"
        )),
        None => at(
            Level::Ok,
            "its image has no tag that tells the version".into(),
        ),
    });
    let watched: Vec<&str> = program
        .flag(&["--watch-namespace", "AWI_WATCH_NAMESPACES"])
        .into_iter()
        .flat_map(|value| value.split(','))
        .collect();
    if !watched.is_empty() && !watched.contains(&told.namespace.as_str()) {
        findings.push(
            at(
                Level::Error,
                format!("does not look after namespace {}", told.namespace),
            )
            .why(format!("It watches {} only", watched.join(", ")))
            .fix(format!(
                "Add {} to watchNamespaces of its Helm values",
                told.namespace
            )),
        );
    }
    let differing = [
        ("--issuer", "AWI_ISSUER", told.issuer.as_deref()),
        (
            "--federation-audience",
            "AWI_FEDERATION_AUDIENCE",
            Some(told.audience.as_str()),
        ),
    ];
    for (flag, variable, ours) in differing {
        let theirs = program.flag(&[flag, variable]);
        if let (Some(theirs), Some(ours)) = (theirs.last(), ours)
            && *theirs != ours
        {
            findings.push(
                at(Level::Warning, format!("runs with {flag}={theirs}"))
                    .why(format!("This command goes by {ours}"))
                    .fix(format!("Run it again with {flag}={theirs}")),
            );
        }
    }
    findings
}

fn leading(operator: &Operator, lease: Option<&Lease>) -> Finding {
    let object = format!("lease/{}", leader::NAME);
    let fix = format!(
        "kubectl get pods -n {namespace} && kubectl logs -n {namespace} -l app.kubernetes.io/name={name}",
        namespace = operator.namespace,
        name = leader::NAME,
    );
    let Some(lease) = lease else {
        return Finding::ok(CHECK, object, "there is none")
            .at(Level::Warning)
            .why(format!(
                "In namespace {} no replica ever led, or one runs without --leader-election",
                operator.namespace
            ))
            .fix(fix);
    };
    match &lease.holder {
        Some(holder) if lease.is_renewed => Finding::ok(CHECK, object, format!("{holder} leads")),
        Some(holder) => Finding::ok(CHECK, object, "is not renewed")
            .at(Level::Error)
            .why(format!(
                "{holder} held it last, and does not run any longer"
            ))
            .fix(fix),
        None => Finding::ok(CHECK, object, "nobody holds it")
            .at(Level::Error)
            .why("The operator was stopped")
            .fix(fix),
    }
}
