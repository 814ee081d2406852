use super::*;
use crate::fs::devfs::{DevFs, Device};
use crate::fs::ext2::Ext2;
use crate::fs::file::{OpenFlags, Target};
use crate::fs::testing::{MemoryDisk, NoConsole, make_image, small_machine};
use crate::fs::tty::Tty;
use alloc::sync::Arc;
use core::future::Future;
use executor::testing::Driver;
use std::fs;
use std::os::unix::fs::symlink;

/// Runs `test` on a tree with a few directories and links, and `/dev` and `/mnt` mounted.
fn on_a_tree<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Arc<Vfs>, Location) -> F + Send + 'static,
) {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    for name in ["a/b/c", "dev", "mnt", "x"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    fs::write(tree.join("a/file"), b"file").unwrap();
    symlink("b/c", tree.join("a/inner")).unwrap();
    symlink("/a/b", tree.join("a/b/c/root")).unwrap();
    symlink("../a/file", tree.join("x/file")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    symlink("/x/../a/", tree.join("slashed")).unwrap();
    for i in 0..45 {
        symlink(
            std::format!("chain{}", i + 1),
            tree.join(std::format!("chain{i}")),
        )
        .unwrap();
    }
    fs::write(tree.join("chain45"), b"end").unwrap();
    symlink("p/".repeat(500), tree.join("long")).unwrap();
    symlink("long/".repeat(190), tree.join("p")).unwrap();
    let image = make_image(&tree, 1024, 1024, &[]);
    let machine = small_machine(8);
    let uvm = machine.uvm.clone();
    machine.run(async move {
        let mount = async || {
            let disk = MemoryDisk::new(&uvm, image.clone());
            Ext2::mount(&uvm, disk, 1).await.unwrap()
        };
        let vfs = Arc::new(Vfs::new());
        assert!(matches!(vfs.root(), Err(FsError::NotFound)));
        vfs.mount_root(mount().await).unwrap();
        assert_eq!(vfs.mount_root(mount().await), Err(FsError::Busy));
        let dev = DevFs::new(Tty::new(
            Arc::new(NoConsole),
            Driver::new().executor().clone(),
        ));
        vfs.mount(b"/dev", dev).await.unwrap();
        vfs.mount(b"/mnt", mount().await).await.unwrap();
        let in_file = vfs.mount(b"/a/file", mount().await).await;
        assert_eq!(in_file, Err(FsError::NotDirectory));
        let root = vfs.root().unwrap();
        test(vfs, root).await;
    });
    machine.check();
}

/// Where `path`, seen from `base`, leads to: the path of the directory, or the number of the file.
async fn where_is(vfs: &Vfs, base: &Location, path: &str) -> Result<std::string::String, FsError> {
    let found = vfs.lookup(base, path.as_bytes(), Follow::Always).await?;
    match found.vnode().kind() {
        Kind::Directory => {
            let path = vfs.path_of(&found).await?;
            Ok(std::string::String::from_utf8(path).unwrap())
        }
        kind => Ok(std::format!("{kind:?}")),
    }
}

#[test]
fn paths_lead_where_they_should() {
    on_a_tree(|vfs, root| async move {
        let b = vfs.lookup(&root, b"/a/b", Follow::Always).await.unwrap();
        for (base, path, expected) in [
            (&root, "/", Ok("/")),
            (&root, "//..//../", Ok("/")),
            (&root, ".", Ok("/")),
            (&root, "a//b/./c/..", Ok("/a/b")),
            (&b, "c", Ok("/a/b/c")),
            (&b, "/x", Ok("/x")),
            (&b, "../inner", Ok("/a/b/c")),
            (&b, "../inner/..", Ok("/a/b")),
            (&b, "c/root/c/root", Ok("/a/b")),
            (&root, "slashed/b", Ok("/a/b")),
            (&root, "x/file", Ok("Regular")),
            (&root, "a/file/", Err(FsError::NotDirectory)),
            (&root, "x/file/", Err(FsError::NotDirectory)),
            (&root, "a/file/b", Err(FsError::NotDirectory)),
            (&root, "", Err(FsError::NotFound)),
            (&root, "nothing", Err(FsError::NotFound)),
            (&root, "nothing/x", Err(FsError::NotFound)),
            (&root, "dangling", Err(FsError::NotFound)),
            (&root, "chain45", Ok("Regular")),
            (&root, "chain5", Ok("Regular")),
            (&root, "chain4", Err(FsError::Loop)),
            (&root, "long", Err(FsError::NameTooLong)),
            (&root, "/dev/null", Ok("CharDevice")),
            (&root, "/dev", Ok("/dev")),
            (&root, "/dev/..", Ok("/")),
            (&root, "/dev/../a", Ok("/a")),
            (&root, "/dev/nothing", Err(FsError::NotFound)),
            (&root, "/mnt/a/b/c/../..", Ok("/mnt/a")),
            (&root, "/mnt/a/b/../../..", Ok("/")),
            (&root, "/mnt/dev/null", Err(FsError::NotFound)),
            // An absolute link starts at the root of all.
            (&root, "/mnt/a/b/c/root", Ok("/a/b")),
        ] {
            let found = where_is(&vfs, base, path).await;
            assert_eq!(found.as_deref().map_err(|e| *e), expected, "{path}");
        }
    });
}

#[test]
fn names_and_paths_have_their_limits() {
    on_a_tree(|vfs, root| async move {
        let long_name = [b'n'; NAME_MAX + 1];
        let longest = &long_name[..NAME_MAX];
        let look = async |path: &[u8]| vfs.lookup(&root, path, Follow::Always).await.err();
        assert_eq!(look(longest).await, Some(FsError::NotFound));
        assert_eq!(look(&long_name).await, Some(FsError::NameTooLong));
        let path = b"./".repeat(PATH_MAX / 2);
        assert_eq!(look(&path).await, Some(FsError::NameTooLong));
        assert_eq!(look(&path[..PATH_MAX - 1]).await, None);
    });
}

#[test]
fn links_and_missing_names_are_answers_where_asked_for() {
    on_a_tree(|vfs, root| async move {
        let link = vfs
            .lookup(&root, b"a/inner", Follow::NotLast)
            .await
            .unwrap();
        assert_eq!(link.vnode().kind(), Kind::Symlink);
        // A slash behind it asks for what it leads to.
        let through = vfs
            .lookup(&root, b"a/inner/", Follow::NotLast)
            .await
            .unwrap();
        assert_eq!(through.vnode().kind(), Kind::Directory);
        match vfs.resolve(&root, b"a/new", Follow::Always).await.unwrap() {
            Resolved::Missing { parent, name } => {
                assert_eq!(vfs.path_of(&parent).await.unwrap(), b"/a");
                assert_eq!(name, b"new");
            }
            Resolved::Found(_) => panic!("it is not there"),
        }
        match vfs
            .resolve(&root, b"dangling", Follow::Always)
            .await
            .unwrap()
        {
            Resolved::Missing { name, .. } => assert_eq!(name, b"nowhere"),
            Resolved::Found(_) => panic!("it is not there"),
        }
    });
}

#[test]
fn files_open_as_what_they_are() {
    on_a_tree(|vfs, root| async move {
        let open = async |path: &str, flags| vfs.open(&root, path.as_bytes(), flags).await;
        let none = OpenFlags::empty();
        let error = async |path: &str, flags| open(path, flags).await.err();
        let file = open("a/file", none).await.unwrap();
        assert!(matches!(file.target(), Target::Regular(..)));
        let null = open("/dev/null", OpenFlags::READ_WRITE).await.unwrap();
        assert!(matches!(null.target(), Target::Device(_, Device::Null)));
        let console = open("/dev/console", none).await.unwrap();
        assert!(console.terminal().is_ok());
        // Whose it is only its opener can say.
        let own = open("/dev/tty", none).await.unwrap();
        assert!(own.is_own_terminal() && own.terminal().is_err());
        let tty = console.terminal().unwrap().clone();
        let own = own.with_terminal(tty);
        assert!(!own.is_own_terminal() && own.terminal().is_ok());
        assert_eq!(own.attributes().represents.minor, 0);
        assert_eq!(
            open("a/file", none).await.unwrap().terminal().err(),
            Some(FsError::NotTerminal)
        );
        for (path, flags, expected) in [
            ("a/file", OpenFlags::WRITE_ONLY, FsError::ReadOnly),
            ("a/file", OpenFlags::TRUNCATE, FsError::ReadOnly),
            ("a/new", OpenFlags::CREATE, FsError::ReadOnly),
            ("nothing/new", OpenFlags::CREATE, FsError::NotFound),
            (
                "a/file",
                OpenFlags::CREATE | OpenFlags::EXCLUSIVE,
                FsError::Exists,
            ),
            ("a/file", OpenFlags::DIRECTORY, FsError::NotDirectory),
            ("a", OpenFlags::READ_WRITE, FsError::IsDirectory),
            ("x/file", OpenFlags::NOFOLLOW, FsError::Loop),
            ("a/new", none, FsError::NotFound),
        ] {
            assert_eq!(error(path, flags).await, Some(expected), "{path}");
        }
        let existing = open("a/file", OpenFlags::CREATE).await;
        assert!(existing.is_ok());
    });
}
