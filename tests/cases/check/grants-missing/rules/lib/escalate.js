export const escalate = () => forward({ to: "boss@acme.example" });
