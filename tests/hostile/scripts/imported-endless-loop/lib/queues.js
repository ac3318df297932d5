export const queue = () => "first";
for (;;);
