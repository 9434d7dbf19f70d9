import { describe, expect, it } from "vitest";
import { applyChange, pluralOf } from "./changes";
import type { Change, Job, Listing } from "./types";

function job(uid: string, revision: number, updated_at: number): Job {
  return { uid, revision, updated_at, kind: "job", name: uid } as Job;
}

const listing: Listing<Job> = { seq: 10, items: [job("a", 2, 100), job("b", 1, 50)] };
const change = (seq: number, type: Change["type"], object: Job): Change => ({ seq, type, object });

describe("applyChange", () => {
  it("adds what is new", () => {
    expect(applyChange(listing, change(11, "created", job("c", 1, 200))).items.map((j) => j.uid)).toEqual([
      "a",
      "b",
      "c",
    ]);
  });

  it("replaces what has changed, in its place", () => {
    expect(applyChange(listing, change(11, "updated", job("a", 3, 101))).items[0]!.revision).toBe(3);
  });

  it("takes a newer status of the same revision", () => {
    expect(applyChange(listing, change(11, "updated", job("a", 2, 101))).items[0]!.updated_at).toBe(101);
  });

  it("ignores an older state that arrives late", () => {
    expect(applyChange(listing, change(9, "updated", job("a", 1, 90)))).toBe(listing);
  });

  it("removes what is deleted, and only once", () => {
    const gone = applyChange(listing, change(11, "deleted", job("a", 2, 100)));
    expect(gone.items.map((j) => j.uid)).toEqual(["b"]);
    expect(applyChange(gone, change(11, "deleted", job("a", 2, 100)))).toBe(gone);
  });

  it("does not bring back what the listing already knows to be gone", () => {
    expect(applyChange(listing, change(8, "updated", job("z", 1, 10)))).toBe(listing);
  });
});

it("knows no plural for a kind of the future", () => expect(pluralOf("volcano")).toBeNull());
