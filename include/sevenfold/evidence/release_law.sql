-- The law of the release row, held by PostgreSQL itself for every role that may write there: a program whose code was
-- replaced, or a stolen password, brings about no row that the promoter's own rows do not permit.
--
-- The law to read is sevenfold/release/release_law.py, which also says why. Held here is what can be told from rows
-- that only the promoter writes: promotions, statements, revocations, ends of overrides, approvals. What stands in
-- them (signatures, digests of measurements, gates that were changed) only Python checks; to forge it takes the
-- promoter's role. Bound by the law is who may not write statements: neither the promoter nor the owner.
-- grant_roles says all of this again at each installation.

CREATE OR REPLACE FUNCTION sevenfold_is_bound() RETURNS boolean LANGUAGE sql AS $$
  SELECT NOT has_table_privilege('statements', 'INSERT')
$$;

CREATE OR REPLACE FUNCTION sevenfold_refuse(what text, why text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF why IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = what || ': ' || why;
  END IF;
END $$;


-- What a candidate has shown. (Arguments begin with the_, for a column of the same name would win.)

-- passing.lacking: the last statement with a say is a passing one that nobody revoked
CREATE OR REPLACE FUNCTION sevenfold_passed(
  the_candidate text, the_environment text, after_statement integer, even_if_expired boolean
) RETURNS boolean LANGUAGE sql AS $$
  SELECT coalesce((
    SELECT s.result = 'PASSED'
      AND NOT EXISTS (SELECT FROM revocations r WHERE r.promotion = s.promotion)
      AND (s.override IS NULL OR even_if_expired OR EXISTS (
        SELECT FROM overrides o WHERE o.sequence = s.override AND o.expires_at > clock_timestamp()))
    FROM statements s
    WHERE s.candidate = the_candidate AND s.environment = the_environment AND s.sequence > after_statement
      AND (s.result = 'PASSED' OR s.verdict = 'Failed')
    ORDER BY s.sequence DESC LIMIT 1
  ), false)
$$;

CREATE OR REPLACE FUNCTION sevenfold_passed_all(the_candidate text, even_if_expired boolean, the_environments text[])
RETURNS boolean LANGUAGE sql AS $$
  SELECT bool_and(sevenfold_passed(the_candidate, one, 0, even_if_expired)) FROM unnest(the_environments) one
$$;

-- the promotion runs there, and carries this candidate
CREATE OR REPLACE FUNCTION sevenfold_is_carried(tried release_rows, the_environment text)
RETURNS boolean LANGUAGE sql AS $$
  SELECT EXISTS (
    SELECT FROM promotions p WHERE p.id = tried.promotion AND p.model = tried.model
      AND p.candidate = tried.candidate AND p.environment = the_environment AND p.state = 'running')
$$;

-- S1 in a mirror, whose answers no caller gets
CREATE OR REPLACE FUNCTION sevenfold_may_be_mirrored(tried release_rows) RETURNS boolean LANGUAGE sql AS $$
  SELECT sevenfold_is_carried(tried, 'preproduction')
    AND sevenfold_passed_all(tried.candidate, false, ARRAY[{before_preproduction}])
$$;

-- S1 where callers meet it; S4: after a roll-back it needs a new record
CREATE OR REPLACE FUNCTION sevenfold_may_answer(tried release_rows) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  rolled roll_backs;
BEGIN
  SELECT * INTO rolled FROM roll_backs b
    WHERE b.model = tried.model AND b.candidate = tried.candidate ORDER BY b.generation DESC LIMIT 1;
  RETURN sevenfold_is_carried(tried, 'production')
    AND sevenfold_passed_all(tried.candidate, false, ARRAY[{before_preproduction}])
    AND sevenfold_passed(tried.candidate, 'preproduction', coalesce(rolled.after_statement, 0), false)
    AND EXISTS (
      SELECT FROM approvals a JOIN promotions p ON p.id = a.promotion
      WHERE a.candidate = tried.candidate AND a.sequence > coalesce(rolled.after_approval, 0)
        AND (p.id = tried.promotion OR p.environment = 'preproduction'));
END $$;

-- S1 of a champion: its own run, no earlier one, has passed production
CREATE OR REPLACE FUNCTION sevenfold_may_take_over(tried release_rows) RETURNS boolean LANGUAGE sql AS $$
  SELECT sevenfold_may_answer(tried) AND sevenfold_passed(tried.candidate, 'production', 0, false) AND (
    SELECT s.result = 'PASSED' FROM statements s WHERE s.promotion = tried.promotion
    ORDER BY s.sequence DESC LIMIT 1)
$$;

-- S4: it was champion since it was last rolled back, if it ever was, and its evidence still stands
CREATE OR REPLACE FUNCTION sevenfold_may_serve_again(the_model text, the_candidate text)
RETURNS boolean LANGUAGE sql AS $$
  SELECT sevenfold_passed_all(the_candidate, true, ARRAY[{before_preproduction}, 'preproduction', 'production'])
    AND EXISTS (
      SELECT FROM release_history h
      WHERE h.model = the_model AND h.champion = the_candidate AND h.generation > coalesce((
        SELECT max(b.generation) FROM roll_backs b WHERE b.model = the_model AND b.candidate = the_candidate), 0))
$$;


-- From one row to the next.
CREATE OR REPLACE FUNCTION sevenfold_release_law() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $$
DECLARE
  now release_rows := OLD;
  after release_rows := NEW;
  another boolean; -- champion
  crowned boolean;
  more boolean; -- for the candidate than before
  of_callers boolean := has_column_privilege('release_rows', 'share', 'UPDATE');
BEGIN
  IF NOT sevenfold_is_bound() THEN RETURN NEW; END IF;
  PERFORM pg_advisory_xact_lock({lock}); -- what is found from here on is so until the end of the transaction
  IF TG_OP = 'INSERT' THEN
    now.model := after.model; now.share := 0; now.mirror := 0; now.generation := 0;
  END IF;
  another := after.champion IS DISTINCT FROM now.champion;
  crowned := another AND after.previous IS NOT DISTINCT FROM now.champion;
  more := now.promotion IS NULL OR after.candidate IS DISTINCT FROM now.candidate
    OR after.share > now.share OR after.mirror > now.mirror;
  PERFORM sevenfold_refuse('the release row of ' || after.model, CASE
    WHEN current_setting('transaction_isolation') <> 'read committed' THEN 'what it is changed by may be old'
    WHEN (after.model, after.generation) <> (now.model, now.generation + 1) THEN 'its generation grows by one'
    WHEN (after.candidate IS NULL) <> (after.promotion IS NULL) THEN 'a candidate is tried by a promotion'
    WHEN after.promotion IS NULL AND (after.share <> 0 OR after.mirror <> 0) THEN 'nobody is tried'
    WHEN after.share NOT BETWEEN 0 AND 1 OR after.mirror NOT BETWEEN 0 AND 1 THEN 'a share is 0 to 1'
    WHEN after.held IS NULL AND now.held IS NOT NULL THEN 'a hold is released by the promoter only'
    WHEN after.promotion <> now.promotion THEN 'another candidate is being tried'
    WHEN NOT of_callers AND 'preproduction' <> ANY (ARRAY[
        split_part(now.promotion, '/', 2), split_part(after.promotion, '/', 2)])
      THEN 'this role tries candidates of preproduction only'
    WHEN another AND after.promotion IS NOT NULL THEN 'a new champion leaves nobody who is tried'
    WHEN crowned AND (
        after.champion = now.candidate AND after.held IS NULL AND sevenfold_may_take_over(now)) IS NOT TRUE
      THEN 'nothing proves that ' || coalesce(after.champion, 'nobody') || ' may be champion'
    WHEN another AND NOT crowned AND (
        after.champion = now.previous AND after.held IS NOT NULL
        AND sevenfold_may_serve_again(after.model, after.champion)
        AND (after.previous IS NULL OR EXISTS (
          SELECT FROM release_history h WHERE h.model = after.model AND h.champion = after.previous))) IS NOT TRUE
      THEN 'a roll-back leads, on hold, to the champion before, whose evidence still stands'
    WHEN NOT another AND after.previous IS DISTINCT FROM now.previous
      THEN 'the one before the champion follows from roll-outs'
    WHEN after.promotion IS NOT NULL AND more AND NOT (
        (after.held IS NULL AND sevenfold_may_answer(after))
        OR (after.share = 0 AND sevenfold_may_be_mirrored(after)))
      THEN 'nothing proves that ' || after.candidate || ' may be tried so'
  END);
  RETURN NEW;
END $$;

-- What stands beside a change when its transaction ends.
CREATE OR REPLACE FUNCTION sevenfold_release_kept() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $$
BEGIN
  IF NOT sevenfold_is_bound() THEN RETURN NULL; END IF;
  PERFORM sevenfold_refuse('the release row of ' || NEW.model, CASE
    WHEN NOT EXISTS (
        SELECT FROM release_history h WHERE h.model = NEW.model AND h.generation = NEW.generation)
      THEN 'its change has to stand in the history'
    WHEN TG_OP = 'INSERT' OR NEW.champion IS NOT DISTINCT FROM OLD.champion THEN NULL
    WHEN EXISTS (SELECT FROM promotions p WHERE p.id = OLD.promotion AND p.state = 'running')
      THEN 'the promotion has to end with the change of the champion'
    WHEN NEW.previous IS DISTINCT FROM OLD.champion AND NOT EXISTS (
        SELECT FROM roll_backs b WHERE b.model = NEW.model AND b.generation = NEW.generation)
      THEN 'its roll-back has to be noted'
  END);
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION sevenfold_history_law() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $$
BEGIN
  IF sevenfold_is_bound() AND NOT EXISTS (
    SELECT FROM release_rows r
    WHERE (r.model, r.generation, r.champion, r.previous, r.candidate, r.promotion, r.share, r.mirror, r.held)
      IS NOT DISTINCT FROM (NEW.model, NEW.generation, NEW.champion, NEW.previous, NEW.candidate, NEW.promotion,
                            NEW.share, NEW.mirror, NEW.held))
  THEN PERFORM sevenfold_refuse('the history of ' || NEW.model, 'it says what the release row says'); END IF;
  RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION sevenfold_roll_back_law() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $$
BEGIN
  IF sevenfold_is_bound() AND NOT (
    EXISTS (
      SELECT FROM release_rows r
        JOIN release_history h ON h.model = r.model AND h.generation = r.generation - 1
      WHERE r.model = NEW.model AND r.generation = NEW.generation AND h.champion = NEW.candidate
        AND r.champion <> NEW.candidate AND r.previous IS DISTINCT FROM NEW.candidate)
    AND NEW.after_statement = (SELECT coalesce(max(s.sequence), 0) FROM statements s)
    AND NEW.after_approval = (SELECT coalesce(max(a.sequence), 0) FROM approvals a))
  THEN PERFORM sevenfold_refuse('the roll-backs of ' || NEW.model, 'what is noted is what happens'); END IF;
  RETURN NEW;
END $$;

-- The first end stays, and promoted in production is who became champion.
CREATE OR REPLACE FUNCTION sevenfold_promotion_law() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $$
BEGIN
  IF NOT sevenfold_is_bound() OR (OLD.state = 'running' AND NEW.state = 'running') THEN RETURN NEW; END IF;
  PERFORM sevenfold_refuse('promotion ' || OLD.id, CASE
    WHEN OLD.state <> 'running' THEN 'it has ended'
    WHEN EXISTS (SELECT FROM release_rows r WHERE r.promotion = OLD.id) THEN 'its candidate is still being tried'
    WHEN (NEW.state = 'promoted') <> EXISTS (
        SELECT FROM release_rows r
          JOIN release_history h ON h.model = r.model AND h.generation = r.generation - 1
        WHERE h.promotion = OLD.id AND r.champion = h.candidate AND r.previous IS NOT DISTINCT FROM h.champion)
      THEN 'it ends as promoted with its candidate as champion, and not otherwise'
  END);
  RETURN NEW;
END $$;

DROP TRIGGER IF EXISTS release_rows_law ON release_rows;
CREATE TRIGGER release_rows_law BEFORE INSERT OR UPDATE ON release_rows
  FOR EACH ROW EXECUTE FUNCTION sevenfold_release_law();
DROP TRIGGER IF EXISTS release_rows_kept ON release_rows;
CREATE CONSTRAINT TRIGGER release_rows_kept AFTER INSERT OR UPDATE ON release_rows
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sevenfold_release_kept();
DROP TRIGGER IF EXISTS release_history_law ON release_history;
CREATE TRIGGER release_history_law BEFORE INSERT ON release_history
  FOR EACH ROW EXECUTE FUNCTION sevenfold_history_law();
DROP TRIGGER IF EXISTS roll_backs_law ON roll_backs;
CREATE TRIGGER roll_backs_law BEFORE INSERT ON roll_backs
  FOR EACH ROW EXECUTE FUNCTION sevenfold_roll_back_law();
DROP TRIGGER IF EXISTS promotions_law ON promotions;
CREATE TRIGGER promotions_law BEFORE UPDATE ON promotions
  FOR EACH ROW EXECUTE FUNCTION sevenfold_promotion_law();
