import { call, get, path, post } from "./http";
import type { Kinds, Plural, Role } from "./types";

export function create<P extends Plural>(
  ts: string,
  plural: P,
  name: string,
  spec: Partial<Kinds[P]["spec"]>,
) {
  return post<Kinds[P]>(path(ts, plural), { name, spec, labels: {} });
}

/** Replaces the spec of an object; the server says 409 when `revision` is no longer the newest. */
export function replace<P extends Plural>(ts: string, plural: P, object: Kinds[P], spec: Kinds[P]["spec"]) {
  const body = { revision: object.revision, spec, labels: object.labels };
  return call<Kinds[P]>("PUT", path(ts, plural, object.name), body);
}

export function fetchOne<P extends Plural>(ts: string, plural: P, name: string) {
  return get<Kinds[P]>(path(ts, plural, name));
}

export function remove(ts: string, plural: Plural, name: string) {
  return call<void>("DELETE", path(ts, plural, name));
}

/** Start or stop, as far as the kind knows the verb. */
export function command(ts: string, plural: Plural, name: string, verb: "start" | "stop") {
  return post<unknown>(path(ts, plural, name, verb));
}

export function openApp(ts: string, studio: string, app: "jupyter" | number) {
  return post<{ url: string }>(path(ts, "studios", studio, "open"), { app });
}

export const signIn = (body: { token: string } | { ticket: string }) => post<unknown>("/login", body);
export const signOut = () => post<unknown>("/logout");
export const createTeamspace = (name: string) => post<unknown>("/teamspaces", { name });
export const createUser = (name: string) => post<{ name: string; token: string }>("/users", { name });
export const createToken = (body: { label: string; expires_s?: number }) =>
  post<{ token: string }>("/tokens", body);
export const revokeToken = (id: string) => call<void>("DELETE", `/tokens/${encodeURIComponent(id)}`);

export function setRole(ts: string, user: string, role: Role) {
  return call<unknown>("PUT", path(ts, "members", user), { role });
}
export function removeMember(ts: string, user: string) {
  return call<void>("DELETE", path(ts, "members", user));
}
export function putSecret(ts: string, name: string, value: string) {
  return call<unknown>("PUT", path(ts, "secrets", name), { value });
}
