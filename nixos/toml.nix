# A value as TOML text. A string of JSON is one of TOML; tables get a heading each, and whatever stands in a list, or
# has to keep its order (schema-types.nix), stands on one line.
{ lib }:
let
  inherit (builtins) attrNames isAttrs isFloat isList isPath isString match toJSON;

  key = k: if match "[A-Za-z0-9_-]+" k != null then k else toJSON k;
  isTable = v: isAttrs v && !(v ? outPath) && v._type or "" != "ordered";
  pairs = entries: "{ ${lib.concatStringsSep ", " (map (e: "${key e.name} = ${inline e.value}") entries)} }";
  inline = v:
    if isAttrs v && v._type or "" == "ordered" then (if v.rules == [ ] then "{}" else pairs v.rules)
    else if isTable v then (if v == { } then "{}" else pairs (lib.mapAttrsToList lib.nameValuePair v))
    else if isList v then "[${lib.concatStringsSep ", " (map inline v)}]"
    # A path literal is copied into the store, a package is its path there.
    else if isPath v || isAttrs v then toJSON "${v}"
    # TOML takes no 1e+06.
    else if isFloat v && match ".*e.*" (toJSON v) != null then throw "nixos/toml.nix: ${toJSON v} cannot be written as TOML"
    else toJSON v;
  table = path: t:
    let
      below = builtins.filter (k: isTable t.${k}) (attrNames t);
      here = builtins.filter (k: !isTable t.${k}) (attrNames t);
    in
    lib.optional (path != [ ] && (here != [ ] || below == [ ])) "\n[${lib.concatStringsSep "." (map key path)}]"
    ++ map (k: "${key k} = ${inline t.${k}}") here
    ++ lib.concatMap (k: table (path ++ [ k ]) t.${k}) below;
in
t: lib.concatStringsSep "\n" (table [ ] t) + "\n"
