import type { ReactNode } from "react";

/** Sixteen-pixel line drawings; always beside a word, so hidden from screen readers. */
function icon(drawing: ReactNode) {
  return function Icon() {
    return (
      <svg className="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
        {drawing}
      </svg>
    );
  };
}

export const HomeIcon = icon(<path d="M2 7.5 8 2.5l6 5M3.8 6.5v7h8.4v-7" />);
export const StudioIcon = icon(<path d="M1.8 3h12.4v8.5H1.8zM5.5 14h5M4.5 5.8 6.3 7.3 4.5 8.8M7.8 9h3" />);
export const JobIcon = icon(<path d="M2.5 13.5V9.2M6.2 13.5V5.8M9.9 13.5V8M13.5 13.5V2.5" />);
export const ExperimentIcon = icon(<path d="M2 2.5v11h12M4.5 5c1.5 5 3 5.5 4.5 5.5S11.5 10.8 13.5 11" />);
export const ModelIcon = icon(<path d="M8 1.8 13.8 5v6L8 14.2 2.2 11V5zM2.2 5 8 8.2 13.8 5M8 8.2v6" />);
export const DeploymentIcon = icon(<path d="M8 14V5.5M4.5 8.5 8 5l3.5 3.5M2.5 2.5h11" />);
export const BillingIcon = icon(
  <path d="M3.5 1.8h9v12.7l-2.2-1.4-2.3 1.4-2.3-1.4-2.2 1.4zM5.8 5.2h4.4M5.8 8.2h4.4" />,
);
export const MembersIcon = icon(
  <path d="M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5M1.5 13.5c.3-2.5 2-4 4.5-4s4.2 1.5 4.5 4M11 2.8a2.3 2.3 0 0 1 0 4.4M12.3 9.9c1.3.6 2 1.9 2.2 3.6" />,
);
export const SecretIcon = icon(<path d="M3.5 7h9v6.5h-9zM5.5 7V4.8a2.5 2.5 0 0 1 5 0V7M8 9.5v1.8" />);
export const MenuIcon = icon(<path d="M2 4h12M2 8h12M2 12h12" />);
export const CloseIcon = icon(<path d="m3.5 3.5 9 9M12.5 3.5l-9 9" />);
export const CopyIcon = icon(<path d="M5.5 5.5h8v8h-8zM3 10.5h-.5v-8h8V3" />);
export const CheckIcon = icon(<path d="m2.8 8.5 3.4 3.4 7-7.8" />);
export const UpIcon = icon(<path d="M4 9.5 8 5.5l4 4" />);
export const DownIcon = icon(<path d="m4 6.5 4 4 4-4" />);
export const OpenIcon = icon(<path d="M6.5 3.5h-4v10h10v-4M9 2.5h4.5V7M13.5 2.5 7.5 8.5" />);
export const WarnIcon = icon(<path d="M8 2 14.5 13.5h-13zM8 6.5v3.5M8 11.6v.4" />);

/** The mark: a bolt through a tile. */
export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" width="24" height="24" aria-hidden="true" focusable="false">
      <rect className="mark-tile" width="32" height="32" rx="7" />
      <path className="mark-bolt" d="M18.6 3.5 7.5 18h6.6l-2 10.5L24 13.4h-7.2z" />
    </svg>
  );
}
