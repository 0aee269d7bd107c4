// A state that is asked for once and kept up to date by what changes.

// Answers and changes may overtake each other: what changes while an answer is under way is put on top of it.
export function live(request, absorb, tell) {
  let state = null;
  let missed = null;
  let asked = 0;
  const set = (next) => tell((state = next));

  return {
    async reload() {
      const wish = ++asked;
      missed ??= [];
      try {
        const answer = await request();
        if (wish === asked) set(missed.reduce(absorb, answer));
      } catch (error) {
        // Whoever asked again meanwhile hears from that answer.
        if (wish === asked) throw error;
      } finally {
        if (wish === asked) missed = null;
      }
    },
    change(changes) {
      missed?.push(changes);
      if (state) set(absorb(state, changes));
    },
    update(next) {
      if (state) set(next(state));
    },
  };
}

// The deliveries among some changes.
export function changedDeliveries(changes) {
  return Object.entries(changes)
    .filter(([topic, delivery]) => topic.startsWith("delivery ") && delivery)
    .map(([, delivery]) => delivery);
}

// Rows, the newest first, with others laid over those of the same id.
export function unite(rows, others) {
  const known = new Map(rows.map((delivery) => [delivery.id, delivery]));
  for (const delivery of others) known.set(delivery.id, delivery);
  return [...known.values()].sort((a, b) => b.id - a.id);
}
