import type { AnyObject, Change, Listing, Plural } from "./types";

const PLURALS: Record<AnyObject["kind"], Plural> = {
  studio: "studios",
  job: "jobs",
  deployment: "deployments",
  experiment: "experiments",
  model: "models",
  secret: "secrets",
  budget: "budgets",
};

/** The plural of an object's kind; null for a kind that this console does not know. */
export function pluralOf(kind: string): Plural | null {
  return PLURALS[kind as AnyObject["kind"]] ?? null;
}

/**
 * A listing with one change applied. An object older than the one in the list changes nothing, so a change
 * that crosses a fetch on its way cannot turn back time.
 */
export function applyChange<T extends AnyObject>(listing: Listing<T>, change: Change): Listing<T> {
  const object = change.object as T;
  const at = listing.items.findIndex((item) => item.uid === object.uid);
  if (change.type === "deleted") {
    return at < 0 ? listing : { ...listing, items: listing.items.toSpliced(at, 1) };
  }
  if (at < 0) {
    // A listing fetched after this change already knows that the object is gone.
    if (listing.seq !== undefined && change.seq <= listing.seq) return listing;
    return { ...listing, items: [...listing.items, object] };
  }
  if (isOlder(object, listing.items[at]!)) return listing;
  return { ...listing, items: listing.items.with(at, object) };
}

/** Whether `a` is an earlier state of the same object than `b`. */
export function isOlder(a: AnyObject, b: AnyObject): boolean {
  return a.revision < b.revision || (a.revision === b.revision && a.updated_at < b.updated_at);
}
