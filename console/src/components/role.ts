import { useMe } from "@/api/queries";
import type { Role } from "@/api/types";
import { useTs } from "@/lib/hooks";

/** The signed-in user's role in this teamspace. The server decides; this only hides what it would refuse. */
export function useRole(): Role {
  const ts = useTs();
  const me = useMe(true).data;
  return me?.teamspaces.find((teamspace) => teamspace.name === ts)?.role ?? "viewer";
}

/** Whether the user may start, stop and change things, or only look. */
export function useCanWork(): boolean {
  return useRole() !== "viewer";
}
