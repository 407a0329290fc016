"""The lines to break: what each one stands for, and the tests that have to notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One line of include/sevenfold/<file>, what becomes of it, and which tests must fail then."""

    breaks: str
    file: str
    line: str
    broken: str
    tests: tuple[str, ...]


ABSOLUTE = ("tests/sevenfold/gates/rules/test_absolute.py",)
COMPARED = ("tests/sevenfold/gates/rules/test_compared.py",)
LIVE = ("tests/sevenfold/gates/rules/test_live.py",)
JUDGING = ("tests/gates/must_fail/test_judging.py",)
ANALYSIS = ("tests/sevenfold/gates/test_analysis.py",)
EVIDENCE = ("tests/gates/must_fail/test_evidence.py",)
RELEASE = ("tests/sevenfold/release/test_release.py",)
REQUEST = ("tests/sevenfold/people/test_request.py",)
GATE_CHANGE = ("tests/sevenfold/people/test_gate_change.py",)
PROTOCOL = ("tests/sevenfold/release/test_protocol.py",)

MUTATIONS = (
    # Rules
    Mutation(
        "a point instead of a bound passes an absolute limit", "gates/rules/limits.py",
        "passed = lowest <= low and high <= highest", "passed = lowest <= value <= highest", ABSOLUTE,
    ),
    Mutation(
        "nothing fails an absolute limit", "gates/rules/limits.py",
        "failed = sure_high < lowest or sure_low > highest", "failed = False", ABSOLUTE,
    ),
    Mutation(
        "one violation of a contract is tolerated", "gates/rules/all_true.py",
        "decide(violations == 0, violations > 0)", "decide(violations <= 1, violations > 1)", ABSOLUTE,
    ),
    Mutation(
        "a share is bounded as if it were certain", "gates/rules/bounds.py",
        "low = 0.0 if bad <= 0 else float(betaincinv(bad, n - bad + 1, alpha))",
        "low = bad / n", ABSOLUTE,
    ),
    Mutation(
        "the normal instead of Student's t for a few days", "gates/rules/bounds.py",
        "ndtri(alpha) if clusters is None else stdtrit(clusters - 1, alpha)", "ndtri(alpha)",
        (*ABSOLUTE, *COMPARED),
    ),
    Mutation(
        "a quantile's bound is one rank too narrow", "gates/rules/bounds.py",
        'side="left")) + 1', 'side="left")) - 3', ABSOLUTE,
    ),
    Mutation(
        "twice the margin is fine", "gates/rules/non_inferior.py",
        "decide(worst < margin, surely > 0)", "decide(worst < 2 * margin, surely > 0)", COMPARED,
    ),
    Mutation(
        "proven worse does not fail", "gates/rules/non_inferior.py",
        "decide(worst < margin, surely > 0)", "decide(worst < margin, False)", COMPARED,
    ),
    Mutation(
        "an AUC of 1.7 is an AUC", "gates/rules/auc.py",
        "if area is None or not 0 <= area <= 1:", "if area is None:", COMPARED,
    ),
    Mutation(
        "passing and the floor each at the whole alpha", "gates/rules/rate_ratio.py",
        "asked = log((1 if metric.limit is None else 2) / case.alpha_pass)",
        "asked = log(0.2 / case.alpha_pass)", LIVE,
    ),
    Mutation(
        "bursts are forgotten", "gates/rules/rate_ratio.py",
        "thinned = intervals / [case.phi, 1, case.phi, 1]", "thinned = intervals", LIVE,
    ),
    Mutation(
        "an unfair split is not looked at", "gates/rules/rate_ratio.py",
        "    _refuse_unfair_split(case.readings)\n", "", (*LIVE, *JUDGING),
    ),
    Mutation(
        "a worse rate does not fail", "gates/rules/rate_ratio.py",
        "bad >= -log(case.alpha_fail))", "False)", LIVE,
    ),
    Mutation(
        "the weight of alternatives is forgotten", "gates/rules/evidence.py",
        " - log(len(log_likelihood_ratios)))", ")", LIVE,
    ),
    Mutation(
        "an arm that is alone compares", "gates/rules/evidence.py",
        "both = intervals[(intervals[:, 1] > 0) & (intervals[:, 3] > 0)]", "both = intervals + 1e-9", LIVE,
    ),
    Mutation(
        "a live share passes without proof", "gates/rules/binomial.py",
        "decide(below >= -log(case.alpha_pass)", "decide(below >= 0", LIVE,
    ),
    Mutation(
        "a ratio of latencies passes as a point", "gates/rules/latency_pairs.py",
        "decide(high < log(margin), sure_low > 0)", "decide(ratio < log(margin), sure_low > 0)", COMPARED,
    ),
    Mutation(
        "two pairs of runs are enough", "gates/rules/latency_pairs.py", "FEWEST = 6", "FEWEST = 2", COMPARED,
    ),
    Mutation(
        "a group's gap passes as a point", "gates/rules/fairness.py",
        "decide(high < limit, sure_low > limit)", "decide(size < limit, sure_low > limit)", COMPARED,
    ),
    Mutation(
        "each use of a test set costs the same", "gates/rules/spending.py",
        "return alpha * 6 / (pi * use) ** 2", "return alpha", (*COMPARED, *ANALYSIS),
    ),
    # What may be judged at all
    Mutation(
        "readings never grow old", "gates/readings.py", "if age > metric.stale_after:", "if False:", JUDGING,
    ),
    Mutation(
        "readings from the future count", "gates/readings.py", "if age < -CLOCK_SKEW:", "if False:", JUDGING,
    ),
    Mutation(
        "any model file will do", "gates/readings.py",
        "if reading.digest != candidate.model_digest:", "if False:", JUDGING,
    ),
    Mutation(
        "another candidate's reading counts", "gates/readings.py",
        "if reading.candidate != candidate.id:", "if False:", JUDGING,
    ),
    Mutation(
        "an estimate without labels decides", "gates/readings.py",
        'if reading.source.startswith("estimate"):', "if False:", JUDGING,
    ),
    Mutation(
        "any champion will do", "gates/readings.py",
        "if baseline is None or reading.baseline_candidate != baseline.id:", "if baseline is None:", JUDGING,
    ),
    Mutation(
        "NaN is a number", "gates/readings.py",
        "if number is not None and not isfinite(number):", "if False:", JUDGING,
    ),
    Mutation(
        "a counter may run backwards", "gates/readings.py",
        "if counts.get(name, 0) < 0:", "if False:", JUDGING,
    ),
    Mutation(
        "nothing is a sample", "gates/readings.py",
        "if not metric.polled and reading.n == 0:", "if False:", JUDGING,
    ),
    Mutation(
        "zero is a denominator", "gates/readings.py",
        'if not metric.polled and counts.get("n", 1) == 0:', "if False:", JUDGING,
    ),
    Mutation(
        "two stories of one interval", "gates/readings.py",
        "if known is not reading and content(known) != content(reading):", "if False:", JUDGING,
    ),
    Mutation(
        "young labels count", "gates/readings.py",
        "if reading.window_end + metric.matured_after <= subject.data_now:", "if True:", JUDGING,
    ),
    # The analysis
    Mutation(
        "what is missing passes", "gates/judging.py",
        "        if not case.readings:\n", "        if False:\n", JUDGING,
    ),
    Mutation(
        "min_sample is forgotten", "gates/judging.py",
        "if outcome.verdict is Verdict.INCONCLUSIVE or outcome.n >= metric.min_sample:", "if True:", JUDGING,
    ),
    Mutation(
        "the budget of a test set is forgotten", "gates/judging.py",
        "if uses > budget:", "if False:", JUDGING,
    ),
    Mutation(
        "a look that nobody counted is the first", "gates/judging.py", "if uses < 1:", "if False:", JUDGING,
    ),
    Mutation(
        "unusable intervals are left out without a limit", "gates/judging.py",
        "if len(flaws) > metric.error_limit:", "if False:", JUDGING,
    ),
    Mutation(
        "too few intervals pass", "gates/judging.py",
        "if outcome.verdict is Verdict.SUCCESSFUL and len(readings) < metric.count:", "if False:", JUDGING,
    ),
    Mutation(
        "a dry run never ends", "gates/analysis.py",
        "if metric.dry_run is not None and metric.dry_run.until < subject.now.date():", "if False:", JUDGING,
    ),
    Mutation(
        "a first candidate is held to nothing", "gates/analysis.py",
        'return metric.baseline != "none" and not subject.has(metric.baseline) and not alone',
        "return subject.champion is None", JUDGING,
    ),
    Mutation(
        "the risk of failing is not divided", "gates/analysis.py",
        "metric.alpha / (rivals * max(len(slices), 1))", "metric.alpha", ANALYSIS,
    ),
    Mutation(
        "small slices decide", "gates/analysis.py",
        "too_small = slice is not None and 0 < outcome.n < metric.min_slice_size", "too_small = False",
        ANALYSIS,
    ),
    Mutation(
        "a moved bar judges", "gates/analysis.py", "if policy.hash not in accepted:", "if False:", JUDGING,
    ),
    Mutation(
        "the best verdict wins", "gates/verdict.py",
        "return max(verdicts, default=Verdict.ERROR)", "return min(verdicts, default=Verdict.ERROR)",
        (*JUDGING, "tests/sevenfold/gates/test_verdict.py"),
    ),
    Mutation(
        "nothing judged is a pass", "gates/verdict.py",
        "default=Verdict.ERROR)", "default=Verdict.SUCCESSFUL)",
        ("tests/sevenfold/gates/test_verdict.py",),
    ),
    # Evidence
    Mutation(
        "what was concluded can be concluded again", "gates/conclude.py",
        'if promotion.state != "running" or last_statement(connection, promotion_id) is not None:',
        "if False:", ("tests/sevenfold/evidence/test_evidence.py",),
    ),
    Mutation(
        "a pass under a moved bar is signed", "gates/conclude.py",
        "    if analysis.policy_hash not in accepted:\n", "    if False:\n", GATE_CHANGE,
    ),
    Mutation(
        "a statement under a moved bar counts", "evidence/passing.py",
        'if row.result == "PASSED" and gate not in gate_change.accepted(', "if False and (", GATE_CHANGE,
    ),
    Mutation(
        "a change of a gate needs no signatures", "people/gate_change.py",
        "and flaw(people, change) is None", "", GATE_CHANGE,
    ),
    Mutation(
        "revoked evidence counts", "evidence/passing.py",
        "    if revoked is not None:\n", "    if False:\n", EVIDENCE,
    ),
    Mutation(
        "an override never expires", "evidence/passing.py",
        "        if until <= now:\n", "        if False:\n", EVIDENCE,
    ),
    Mutation(
        "altered measurements count", "evidence/passing.py",
        'if inputs[f"sevenfold:measurements/{row.promotion}"] != readings:', "if False:", EVIDENCE,
    ),
    Mutation(
        "another candidate's statement counts", "evidence/passing.py",
        'if statement["subject"] != subjects(candidate):', "if False:", EVIDENCE,
    ),
    Mutation(
        "an unsigned statement counts", "evidence/statement.py",
        "        opened.verify(list(trusted), 1)\n", "", EVIDENCE,
    ),
    Mutation(
        "the log's chain is not checked", "evidence/audit.py",
        "if line.previous != previous or line.hash != _hash(line):", "if False:",
        ("tests/sevenfold/evidence/test_evidence.py",),
    ),
    Mutation(
        "a log that was cut off is as it was written", "evidence/verify.py",
        'if hashes.get(seen["sequence"]) == seen["hash"]:', "if True:", EVIDENCE,
    ),
    Mutation(
        "rows that nobody logged are fine", "evidence/cross_check.py",
        "for text in (there - logged).elements():", "for text in ():", EVIDENCE,
    ),
    Mutation(
        "rows that were taken out are not missed", "evidence/cross_check.py",
        "for text in (logged - there).elements():", "for text in ():", EVIDENCE,
    ),
    Mutation(
        "a promotion's state is not held against the log", "evidence/cross_check.py",
        "if promotion in (None, row.id) and row.state != logged:", "if False:", EVIDENCE,
    ),
    # Two people
    Mutation(
        "one person is two", "people/request.py",
        "if request.requested_by.strip().lower() == by.strip().lower():", "if False:", REQUEST,
    ),
    Mutation(
        "a typed name is a signature", "people/request.py",
        "if request.envelope is None or envelope is None:", "if False:", REQUEST,
    ),
    Mutation(
        "a signature of something else counts", "people/request.py",
        "if dict(signed.content) != dict(content):", "if False:", REQUEST,
    ),
    Mutation(
        "somebody else's signature counts", "people/request.py",
        "if signed.name != by:", "if False:", REQUEST,
    ),
    Mutation(
        "an override lifts what it does not name", "people/override.py",
        "in_the_way <= set(self.scope)", "True", ("tests/sevenfold/evidence/test_evidence.py",),
    ),
    Mutation(
        "an override that was slipped into the database lifts", "people/override.py",
        "not needs_two(environment) or _is_signed(connection, people, given)", "True", EVIDENCE,
    ),
    Mutation(
        "an override of one person counts where a statement rests on it", "evidence/passing.py",
        "if not override.stands(connection, keys.people, promotion, row.override):", "if False:", EVIDENCE,
    ),
    Mutation(
        "who asked approves", "people/approval.py",
        "            require_four_eyes(promotion_id, person, approver)\n", "            pass\n",
        ("tests/sevenfold/evidence/test_evidence.py",),
    ),
    # The release row
    Mutation(
        "a hold holds nothing", "release/release_law.py", "if row.held is not None:", "if False:", RELEASE,
    ),
    Mutation(
        "production without an approval", "release/release_law.py",
        "now, after_statement) or unapproved(", "now, after_statement) or (lambda *_: None)(",
        EVIDENCE,
    ),
    Mutation(
        "back to a champion that was rolled back", "release/release_law.py",
        "if not unspoilt(connection, now.model, after.champion):", "if False:", RELEASE,
    ),
    Mutation(
        "the generation is not compared", "release/release.py",
        "        if now.generation != generation:\n", "        if False:\n", RELEASE,
    ),
    Mutation(
        "a slot can be taken from another", "release/release_row.py",
        "if now.promotion is not None and now.promotion != promotion.id:", "if False:", PROTOCOL,
    ),
    Mutation(
        "a roll-back is repeated on whoever serves now", "release/release_row.py",
        "    if now.champion != champion:\n        return now\n", "", RELEASE,
    ),
)  # fmt: skip
